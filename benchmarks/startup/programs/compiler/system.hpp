#pragma once

#include <Eigen/Dense>

// Returns a well-conditioned matrix of this size.
Eigen::MatrixXd coefficients(int size);

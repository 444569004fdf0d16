#include "system.hpp"

#include <Eigen/Dense>

double sum_of_solution(int size) {
    Eigen::MatrixXd matrix = Eigen::MatrixXd::Identity(size, size) * size;
    for (int row = 0; row < size; ++row) {
        for (int column = 0; column < size; ++column) {
            matrix(row, column) += (row * column) % 7;
        }
    }
    const Eigen::VectorXd ones = Eigen::VectorXd::Ones(size);
    return matrix.partialPivLu().solve(matrix * ones).sum();
}

#include "system.hpp"

Eigen::MatrixXd coefficients(int size) {
    Eigen::MatrixXd matrix = Eigen::MatrixXd::Identity(size, size) * size;
    for (int row = 0; row < size; ++row) {
        for (int column = 0; column < size; ++column) {
            matrix(row, column) += (row * column) % 7;
        }
    }
    return matrix;
}

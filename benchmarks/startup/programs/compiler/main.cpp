#include <boost/algorithm/string.hpp>
#include <boost/multiprecision/cpp_int.hpp>
#include <iostream>
#include <string>
#include <vector>

#include "system.hpp"

int main() {
    const Eigen::MatrixXd matrix = coefficients(60);
    const Eigen::VectorXd ones = Eigen::VectorXd::Ones(60);
    const Eigen::VectorXd found = matrix.partialPivLu().solve(matrix * ones);
    boost::multiprecision::cpp_int factorial = 1;
    for (int factor = 2; factor <= 20; ++factor) {
        factorial *= factor;
    }
    std::vector<std::string> parts{"result", std::to_string(std::lround(found.sum())), factorial.str()};
    std::cout << boost::join(parts, " ") << std::endl;
}

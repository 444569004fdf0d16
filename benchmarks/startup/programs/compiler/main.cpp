#include <boost/algorithm/string/join.hpp>
#include <boost/rational.hpp>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "system.hpp"

int main() {
    const boost::rational<int> third = boost::rational<int>(1, 2) - boost::rational<int>(1, 6);
    std::vector<std::string> parts{"result", std::to_string(std::lround(sum_of_solution(60))),
                                   std::to_string(third.denominator())};
    std::cout << boost::join(parts, " ") << std::endl;
}

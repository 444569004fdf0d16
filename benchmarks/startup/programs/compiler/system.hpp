#pragma once

// Solves a well-conditioned system of this size, whose solution is all ones, and returns the sum of the solution.
double sum_of_solution(int size);

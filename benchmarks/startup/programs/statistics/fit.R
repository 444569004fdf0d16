# Fits a line to each of three groups of simulated measurements, and draws it.
cat("started\n")
flush(stdout())
suppressPackageStartupMessages(library(tidyverse))

set.seed(7)
measured <- tibble(group = rep(c("a", "b", "c"), each = 2000), x = runif(6000, 0, 10)) %>%
  mutate(y = 2 * x + as.integer(factor(group)) + rnorm(6000))
fits <- measured %>%
  group_by(group) %>%
  nest() %>%
  mutate(fit = map(data, ~ lm(y ~ x, data = .x)), slope = map_dbl(fit, ~ coef(.x)[["x"]]))
picture <- ggplot(measured, aes(x, y, colour = group)) + geom_point() + geom_smooth(method = "lm", formula = y ~ x)
ggsave(file.path(tempdir(), "fits.pdf"), picture, width = 6, height = 4)
cat(sprintf("%s %.4f\n", fits$group, fits$slope), sep = "")
cat(sprintf("result %.1f\n", mean(fits$slope)))

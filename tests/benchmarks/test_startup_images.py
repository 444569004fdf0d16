"""The images of the startup benchmark: what their recipes say, how often they are started, and from where."""

import msgspec
import pytest

from benchmarks.startup import layers
from benchmarks.startup.disk import SIZE_IN_MEMORY, in_memory
from benchmarks.startup.plan import LAZYFS, LOCAL, PROFILED, PULLS, full
from benchmarks.startup.recipes import RECIPES, Recipe
from benchmarks.startup.services import Line
from benchmarks.startup.workloads import WORKLOADS, Workload, with_output

LONG = Line(50, 100)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_has_a_program_and_exact_wheels(recipe: Recipe) -> None:
    assert (recipe.program / "run").read_text().startswith("#!/bin/sh\n")
    assert WORKLOADS[recipe.name].command == ("/bin/sh", f"/opt/{recipe.name}/run")
    pins = layers.pinned(recipe.wheels) if recipe.wheels else []
    assert [pin for pin in pins if pin.count("==") != 1] == []


def test_every_program_directory_belongs_to_a_recipe() -> None:
    directories = {path.name for path in RECIPES[0].program.parent.iterdir() if path.is_dir()}
    assert directories == {recipe.name for recipe in RECIPES}


@pytest.mark.parametrize("image", ["shell", "analysis", *(recipe.name for recipe in RECIPES)])
def test_each_image_is_started_by_every_side_on_the_long_line(image: str) -> None:
    sides = {side for case in full() if (case.line, case.workload) == (LONG, image) for side in case.sides}
    assert sides >= {*LAZYFS, *PULLS, LOCAL}


def test_one_image_is_large_and_is_pulled_once() -> None:
    (large,) = (recipe.name for recipe in RECIPES if recipe.large)
    repeats = {side: case.repeats for case in full() if case.workload == large for side in case.sides}
    assert {repeats[side] for side in PULLS} == {1}
    assert repeats[PROFILED] > 1


@pytest.mark.parametrize(
    ("image", "memory", "expected"),
    [(1_200_000_000, 24 << 30, True), (6_000_000_000, 24 << 30, False), (1, 2 * SIZE_IN_MEMORY, False)],
)
def test_small_images_are_started_from_memory_where_there_is_enough(
    image: int, memory: int, expected: bool
) -> None:
    assert in_memory(image, memory) is expected


def test_a_start_counts_only_with_the_output_of_the_unpacked_image() -> None:
    command = ("/bin/sh", "-c", "echo started; echo result 5")
    known = with_output(Workload("web", "web", command, b"result 5\n", repeatable=True), "/")
    assert known.output == b"started\nresult 5\n"
    assert not known.wrong(b"started\nresult 5\n")
    assert known.wrong(b"started\nresult 5\nand a warning\n")
    assert msgspec.structs.replace(known, output=None).wrong(b"result 6\n")


@pytest.mark.parametrize("script", ["echo result 6", "echo result 5; exit 3"])
def test_a_program_that_fails_in_the_unpacked_image_stops_the_run(script: str) -> None:
    workload = Workload("web", "web", ("/bin/sh", "-c", script), b"result 5\n", repeatable=True)
    with pytest.raises(RuntimeError, match="in the unpacked image"):
        with_output(workload, "/")

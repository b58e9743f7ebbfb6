#!/usr/bin/env bash
# What the kernels ask of memory and how long they would take on a GPU, as tables that nobody writes by hand.
# Wants a build whose kernels count (cmake --preset cpu && cmake --build --preset cpu --target profile
# plume_counted), and uses the machine code in build/sass where it is there (tools/kernel_report.sh --sass).
#
# usage: tools/ladder.sh                     all tables again: kernels/README.md, kernels/lessons,
#                                            bench/results/predictions-h100
#   tools/ladder.sh --networks | --ladders   only the five networks' passes, images 1, 32 and 256 | only the
#                                            variants' calls
#   tools/ladder.sh --tables                 no runs: the tables from the JSON that is there
#   tools/ladder.sh --lesson coalescing      a lesson's table, and its kernels as pages in out/lessons
#   tools/ladder.sh slot [flags of profile]  a slot's variants for one call of a network, printed only, e.g.
#     tools/ladder.sh depthwise_conv2d.forward --mode training --dtype bf16 --batch 8 --shape 14x14x240
# PROFILE=... the program   GPU=... h100, a100, ... or a file   JOBS=... runs at once   LIMIT=... seconds each
# PROFILE_FLAGS="..." for every run
# Exit status: 0; 1 a run failed; 2 wrong usage, no build with counters, or no variant that fits.
exec python3 "$(dirname "$0")/profiling/ladder/ladder.py" "$@"

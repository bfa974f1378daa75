# shellcheck shell=sh disable=SC2034  # read by init.sh
# No module of security: what holds here holds by the worker and the kernel alone. Bundles that lack a layer are
# left to the host: this kernel has no scopes of Landlock, and so fewer layers than the page that they are held to.
checks='tests/hostile/attempts/test_attempts.py::test_nothing_is_won
  tests/hostile/attempts/test_attempts.py::test_all_that_an_operator_can_allow_opens_what_it_is_for_alone
  tests/hostile/attempts/test_attempts.py::test_calls_that_can_be_reached
  tests/hostile/runs/test_within.py tests/hostile/runs/test_shared.py tests/hostile/runs/test_groups.py
  tests/hostile/runs/test_images.py tests/hostile/runs/test_outcomes.py tests/hostile/runs/test_storms.py'

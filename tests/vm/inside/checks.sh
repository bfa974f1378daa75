# shellcheck shell=sh
# The rest of the first process, in the domain of a service where there are domains: the checks in these files.
[ -z "$ENFORCE" ] || setenforce 1
# In the place of the options in pyproject.toml: of the plug-ins that they name most are not here.
python3 -B -m pytest -o "addopts=--strict-markers --strict-config -ra --import-mode=importlib" -p no:cacheprovider -p tests.vm.inside.tell --assert=plain --color=no --tb=short --durations=0 --timeout 900 -q "$@"
code=$?
[ $code = 0 ] || dmesg | grep -E 'audit|seatrial' | tail -n 40
printf '\nend %s\n' $code >/dev/ttyS1
sleep 1
busybox reboot -f

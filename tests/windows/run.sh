#!/usr/bin/env bash
# Run tests on CPython for Windows under wine: `run.sh PYTHON [PYTEST_ARGUMENT...]`.
# Succeeds with a message if wine is missing and cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
shift
windows=$PWD/.windows
. tests/windows/wine.sh

# The minimum of passed tests, to notice when too many are skipped.
minimum=${WINDOWS_MINIMUM:-3550}

status=0
tests/windows/setup.sh "$python" || status=$?
if [ "$status" = 3 ]; then
    echo "======== NOT RUN: the tests on Windows. wine is missing and cannot be installed."
    exit 0
fi
[ "$status" = 0 ]

trap end_wine EXIT
rm -f "$windows/results.xml"
if [ $# = 0 ]; then
    set -- tests/unit tests/integration tests/emulator
    # Tests that take minutes and do not depend on Windows.
    for slow in integration/test_simulated_day.py integration/test_metadata_simulated_day.py integration/test_documents.py \
        unit/test_architecture.py unit/test_wording.py unit/test_named_paths.py unit/test_benchmark_figures.py \
        integration/test_comparison.py \
        "integration/test_interpreter_modes.py::test_pool_of_processes_sends_one_request_per_token[spawn-multiprocessing]" \
        integration/test_metadata_command.py::test_event_is_approved_after_its_command \
        unit/test_rate_limit.py::test_request_is_sent_without_a_permit_if_all_holders_have_expired \
        unit/test_attested_documents.py::test_no_byte_of_the_algorithm_identifiers_can_be_modified \
        emulator/test_emulator_http.py::test_ten_thousand_malformed_requests_are_survived; do
        set -- "$@" "--deselect=tests/$slow"
    done
else
    minimum=0
fi
attempt() {
    status=0
    in_windows "$windows/python/python.exe" -m pytest -n "${WINDOWS_WORKERS:-4}" \
        --junitxml=.windows/results.xml --override-ini=cache_dir=.windows/pytest "$@" || status=$?
    end_wine
}
attempt "$@"
if [ "$status" = 124 ]; then
    echo "======== wine hung, which happens sometimes: second attempt"
    attempt "$@"
fi
if [ "$status" = 1 ]; then
    echo "======== wine sometimes fails to start a program: running the failed tests again, one by one"
    attempt --last-failed -n 0 --junitxml=.windows/again.xml "$@"
fi
if [ "$minimum" != 0 ]; then
    "$python" tests/windows/console.py "$(wine_program)" "$windows/python/python.exe" || status=$?
fi
"$python" tests/windows/outcomes.py "$windows/results.xml" "$minimum"
exit "$status"

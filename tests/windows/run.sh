#!/usr/bin/env bash
# Runs tests on a CPython for Windows under wine: `run.sh PYTHON [what pytest is to run]`.
# Where there is no wine and none can be installed it says so, and passes.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
shift
windows=$PWD/.windows
. tests/windows/wine.sh

# So many of the tests must pass, or the skips have become a blanket.
least=${WINDOWS_LEAST:-3550}

status=0
tests/windows/setup.sh "$python" || status=$?
if [ "$status" = 3 ]; then
    echo "======== NOT RUN: the tests on Windows. There is no wine, and none can be installed."
    exit 0
fi
[ "$status" = 0 ]

trap end_wine EXIT
rm -f "$windows/results.xml"
if [ $# = 0 ]; then
    set -- tests/unit tests/integration tests/emulator
    # Minutes of computing, or of files that wine is slow with, which show nothing of Windows.
    for slow in integration/test_simulated_day.py integration/test_metadata_day.py integration/test_documents.py \
        unit/test_architecture.py integration/test_comparison.py \
        integration/test_metadata_command.py::test_a_command_is_run_and_its_event_approved \
        unit/test_rate_limit.py::test_request_is_sent_without_a_permit_if_all_holders_have_expired \
        unit/test_attested_documents.py::test_no_byte_of_the_algorithms_names_can_be_another \
        emulator/test_emulator_http.py::test_ten_thousand_malformed_requests_are_survived; do
        set -- "$@" "--deselect=tests/$slow"
    done
else
    least=0
fi
attempt() {
    status=0
    in_windows "$windows/python/python.exe" -m pytest -n "${WINDOWS_WORKERS:-4}" \
        --junitxml=.windows/results.xml --override-ini=cache_dir=.windows/pytest "$@" || status=$?
    end_wine
}
attempt "$@"
if [ "$status" = 124 ]; then
    echo "======== wine did not get on, as it does once in a while: once more"
    attempt "$@"
fi
if [ "$status" = 1 ]; then
    echo "======== wine refuses to start a program once in a while: what failed once more, by itself"
    attempt --last-failed -n 0 --junitxml=.windows/again.xml "$@"
fi
if [ "$least" != 0 ]; then
    "$python" tests/windows/console.py "$(wine_program)" "$windows/python/python.exe" || status=$?
fi
"$python" tests/windows/outcomes.py "$windows/results.xml" "$least"
exit "$status"

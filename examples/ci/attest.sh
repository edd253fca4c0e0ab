#!/bin/sh
# Attestation tests in any CI system: checks the files, starts a server and an agent for the tests that need
# them, and writes JUnit's XML. Usage: attest.sh FOLDER [REPORT.xml]
set -eu

folder=${1:?the folder with entries.yaml and attest-tests.yaml}
report=${2:-report.xml}
data=$(mktemp -d)
up=

ended() {
    if [ -n "$up" ]; then
        kill "$up" 2>/dev/null || true
        wait "$up" 2>/dev/null || true
    fi
    rm -rf "$data"
}
trap ended EXIT
trap 'exit 1' INT TERM

# As fresh as production's server would be: no entry of anybody else is there.
writ up --data "$data/w" --output json > "$data/ready" 2> "$data/log" &
up=$!
until [ -s "$data/ready" ]; do
    kill -0 "$up" 2>/dev/null || { cat "$data/log" >&2; exit 1; }
    sleep 0.1
done

# Selectors that no attestor gives and values that no process has are refused here.
writ apply --data "$data/w" --file "$folder/entries.yaml"
writ attest test --data "$data/w" --junit "$report" ${WRIT_ATTEST_FLAGS-} "$folder/attest-tests.yaml"

#!/usr/bin/env bash
# Sees to a Chromium for test/places: prints its path, or why there is none (then exits with 1).
# Installs one through apt-get where it is missing, this is root, and PLACES_INSTALL is not 0.
set -uo pipefail

find_chromium() {
  if [ -n "${CHROME_PATH:-}" ]; then
    [ -x "$CHROME_PATH" ] && printf '%s\n' "$CHROME_PATH"
    return
  fi
  command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable
}

find_chromium && exit 0
fail() { printf 'no browser: %s\n' "$1" >&2; exit 1; }
[ -z "${CHROME_PATH:-}" ] || fail "CHROME_PATH is $CHROME_PATH, which is no program"
[ "${PLACES_INSTALL:-1}" != 0 ] || fail 'no chromium on PATH, and PLACES_INSTALL=0 says to install none'
command -v apt-get > /dev/null || fail 'no chromium on PATH, and no apt-get to install it with'
[ "$(id -u)" = 0 ] || fail 'no chromium on PATH, and installing it needs root'
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
  > "$log" 2>&1; then
  fail "apt-get could not install chromium: $(tail -n 1 "$log")"
fi
find_chromium || fail 'apt-get installed chromium, and it is still not on PATH'

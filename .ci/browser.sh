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

if find_chromium; then
  # What webgpu in Node asks for besides; its place is skipped without.
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null && ! ldconfig -p | grep -q libvulkan.so.1; then
    apt-get install -y --no-install-recommends libvulkan1 > /dev/null 2>&1 || true
  fi
  exit 0
fi
fail() { printf 'no browser: %s\n' "$1" >&2; exit 1; }
[ -z "${CHROME_PATH:-}" ] || fail "CHROME_PATH is $CHROME_PATH, which is no program"
[ "${PLACES_INSTALL:-1}" != 0 ] || fail 'no chromium on PATH, and PLACES_INSTALL=0 says to install none'
command -v apt-get > /dev/null || fail 'no chromium on PATH, and no apt-get to install it with'
[ "$(id -u)" = 0 ] || fail 'no chromium on PATH, and installing it needs root'
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium libvulkan1; } \
  > "$log" 2>&1; then
  fail "apt-get could not install chromium: $(tail -n 1 "$log")"
fi
find_chromium || fail 'apt-get installed chromium, and it is still not on PATH'

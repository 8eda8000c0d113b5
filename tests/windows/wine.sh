# Sourced: what every call of wine here needs. $windows is the folder of all that is installed.
export WINEPREFIX=$windows/prefix WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml="
unset DISPLAY WAYLAND_DISPLAY PYTHONPATH

wine_program() { command -v wine64 || command -v /usr/lib/wine/wine64; }

# Standard streams that are regular files are none to a Python under wine: everything is a pipe,
# which is not waited for, because a test's child may be left with its other end.
# A program that wine never gets started ends all the same.
in_windows() { timeout --kill-after=10 600 "$(wine_program)" "$@" </dev/null > >(cat) 2>&1; }

# This prefix's own server, and with it all that runs there; no other's.
end_wine() { if [ -d "$WINEPREFIX" ]; then wineserver -k || true; fi; }

# Settings and functions for wine; to be sourced. $windows is the installation folder.
export WINEPREFIX=$windows/prefix WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml="
unset DISPLAY WAYLAND_DISPLAY PYTHONPATH

wine_program() { command -v wine64 || command -v /usr/lib/wine/wine64; }

# Python under wine cannot use regular files as standard streams, so its output is piped through cat.
# The script does not wait for cat, because a child of a test may keep the pipe open. The timeout ends
# programs that wine fails to start; a busy machine needs a longer one.
in_windows() { timeout --kill-after=10 "${WINDOWS_SECONDS:-600}" "$(wine_program)" "$@" </dev/null > >(cat) 2>&1; }

# End the wineserver of this prefix and all its programs.
end_wine() { if [ -d "$WINEPREFIX" ]; then wineserver -k || true; fi; }

"""The command line's parser: short usage, helpful errors, and suggestions for wrong words."""

from __future__ import annotations

import argparse

from .._core.failure import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

PROGRAM = "imds-identity"
# Words of az and other programs, and what they are called here.
_COMMANDS = {
    "get-access-token": "token",
    "keyvault": "secret",
    "account": "whoami",
    "identity": "whoami",
    "vm": "metadata",
    "instance": "metadata",
    "acr": "docker-credential",
    "run": "exec",
    "proxy": "serve",
    "server": "serve",
    "check": "doctor",
    "diagnose": "doctor",
    "status": "doctor",
    "vault": "vault-login",
}
_FLAGS = {
    "--format": "--output",
    "--json": "--output json",
    "--debug": "--verbose",
    "--identity": "--client-id",
    "--username": "--client-id",
    "--principal-id": "--object-id",
    "--msi-res-id": "--resource-id",
    "--vault-name": "kv://VAULT/NAME",
    "--id": "https://VAULT.vault.azure.net/secrets/NAME",
    "--query": "a pipe to jq",
}
_VALUES = {
    "tsv": "text",
    "none": "text",
    "yaml": "json",
    "jsonc": "json",
    "list": "show",
    "delete": "clear",
    "purge": "clear",
    "sh": "bash",
    "pwsh": "powershell",
    "vm": "imds",
    "error": "failure",
}


def did_you_mean(word: str, known: Iterable[str], other_names: dict[str, str]) -> str:
    """Return a question with the known word that ``word`` may stand for, or an empty string."""
    from difflib import get_close_matches

    names = {each.lower(): each for each in known}
    word = word.lower().replace("_", "-")
    meant = other_names.get(word, "")
    is_known = meant.split(" ")[0] in names or (word[:1] == "-" != meant[:1])
    if not meant or not is_known:
        starts = [each for each in names if len(word) > 2 and each.startswith(word)]
        meant = next((names[each] for each in starts or get_close_matches(word, names, 1)), "")
    return f"; did you mean {meant}?" if meant else ""


class Parser(argparse.ArgumentParser):
    """A parser whose errors say what is wrong, what may be meant, and how to go on."""

    report_error: Callable[[str], None] | None = None
    """Reports wrong usage in a command's own format, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"formatter_class": _HelpFormatter, "allow_abbrev": False}
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Report wrong usage, and exit with status 2."""
        if self.report_error:
            self.report_error(message)
        lines = [f"{self.prog}: {escape(message)}", self.format_usage().rstrip()]
        if self.epilog and self.epilog.startswith("examples:"):
            lines.append(f"example: {self.epilog.splitlines()[1].strip()}")
        self.exit(2, "\n".join([*lines, f"help: {self.prog} --help"]) + "\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the words; report unknown ones here, because the main parser has other flags."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return found, unknown

    def _unknown(self, words: list[str]) -> str:
        flag = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
        if flag is None:
            return f"unexpected argument {words[0]!r}"
        return f"unknown flag {flag}{did_you_mean(flag, self._option_string_actions, _FLAGS)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(each) for each in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            hint = did_you_mean(value, choices, _COMMANDS)
            raise argparse.ArgumentError(None, f"unknown command {value!r}{hint}")
        hint = did_you_mean(str(value), choices, _VALUES)
        known = f"; the values are {', '.join(choices)}" if not hint else ""
        raise argparse.ArgumentError(action, f"unknown value {value!r}{hint}{known}")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            if action.type not in (int, float):
                raise
        expected = "a whole number" if action.type is int else "a number"
        raise argparse.ArgumentError(action, f"must be {expected}, not {arg_string!r}")


class _HelpFormatter(argparse.HelpFormatter):
    """A formatter of fixed width: detecting that of the terminal would import six modules."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)

    def _format_usage(
        self, usage: str | None, actions: Any, groups: Any, prefix: str | None
    ) -> str:
        """Show required arguments only: a list of all flags hides the error after it."""
        shown = [each for each in actions if each.required or not each.option_strings]
        if usage is None and len(shown) < len(actions):
            self._prog, prog = f"{self._prog} [FLAGS]", self._prog
            text = super()._format_usage(usage, shown, [], prefix)
            self._prog = prog
            return text
        return super()._format_usage(usage, actions, groups, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep the line breaks of a list of examples."""
        return indent + (text if "\n" in text else "\n".join(self._split_lines(text, width)))

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Do not break flags and URLs at hyphens, so that they can be copied."""
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

"""A griffe extension: signatures in the reference show what is a user's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator


class OfUsers(griffe.Extension):
    """Drops parameters that are private or only refuse arguments, and defaults that are code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Look at one object; griffe calls this."""
        if isinstance(obj, griffe.Function):
            shown = [each for each in obj.parameters if not _is_ours(each)]
            obj.parameters = griffe.Parameters(*shown)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Look at the whole package, in which the constructors of data classes are made by now."""
        settings = pkg["emulator._settings.Settings.__init__"]
        for function in _functions(pkg):
            if any("with_options_of" in str(each.value) for each in function.decorators):
                own = next(iter(function.parameters))
                first, *others = list(settings.parameters)[1:]
                # griffe takes it for one that has to be named
                first.kind = griffe.ParameterKind.positional_or_keyword
                function.parameters = griffe.Parameters(own, first, *others)
            for parameter in function.parameters:
                _simplify(parameter)


def _is_ours(parameter: griffe.Parameter) -> bool:
    return parameter.name.startswith("_") or str(parameter.annotation) == "Never"


def _simplify(parameter: griffe.Parameter) -> None:
    if isinstance(parameter.default, griffe.ExprCall):
        parameter.default = "..."
    annotation = parameter.annotation
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) == "Annotated":
        parameter.annotation = annotation.slice.elements[0]  # type: ignore[union-attr]


def _functions(of: griffe.Object) -> Iterator[griffe.Function]:
    for each in of.members.values():
        if isinstance(each, griffe.Function):
            yield each
        elif isinstance(each, (griffe.Module, griffe.Class)):
            yield from _functions(each)

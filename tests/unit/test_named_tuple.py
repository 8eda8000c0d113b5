"""``NamedTuple`` without `typing`: what classes of this package rely on."""

from __future__ import annotations

import copy
import pickle

import pytest

from imds_identity._platform.named_tuple import NamedTuple


class Point(NamedTuple):
    """A place."""

    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        """Both."""
        return self.x + self.y

    def __str__(self) -> str:
        return f"at {super().__repr__()}"

    @classmethod
    def nowhere(cls) -> Point:
        """The origin."""
        return cls(0, 0)


def test_it_is_a_tuple_whose_items_have_names() -> None:
    point = Point(1)
    assert point == (1, 2)
    assert (point.x, point.y, point.sum) == (1, 2, 3)
    assert Point._fields == ("x", "y")
    assert Point(y=5, x=4)._asdict() == {"x": 4, "y": 5}
    assert point._replace(x=7) == Point(7)
    assert isinstance(point._replace(x=7), Point)
    assert hash(point) == hash((1, 2))
    assert repr(point) == "Point(x=1, y=2)"
    assert str(point) == "at Point(x=1, y=2)"
    assert Point.nowhere() == (0, 0)
    assert (Point.__doc__, Point.__module__) == ("A place.", __name__)


def test_nothing_else_fits_into_it() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        point.z = 3  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="x"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="z"):
        Point(1, z=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda point: pickle.loads(pickle.dumps(point))]
)
def test_a_copy_is_of_its_class(copied) -> None:  # type: ignore[no-untyped-def]
    assert type(copied(Point(1))) is Point
    assert copied(Point(1)) == Point(1)

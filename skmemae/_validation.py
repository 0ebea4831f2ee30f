"""Checks of single parameters."""

from numbers import Integral


def check_positive_int(name: str, value: object, where: str) -> int:
    """Return the value of a parameter as an int.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What the caller passed; a bool is not an int here.
    where : str
        The function or class that has the parameter.

    Raises
    ------
    ValueError
        If the value is not an int of at least 1.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"The {name!r} parameter of {where} must be a positive int. Got {value!r} instead.")
    return int(value)

"""What CI checks, on every Python that is supported: `nox`, or `nox -s ci-3.11`."""

from __future__ import annotations

import nox

PYTHONS = ["3.10", "3.11", "3.12"]


@nox.session(python=PYTHONS, venv_backend="none")
@nox.parametrize("python", PYTHONS)
def ci(session: nox.Session, python: str) -> None:
    """Run all that CI runs, in an environment of its own."""
    session.run("bash", ".ci/run", env={"PYTHON": f"python{python}"}, external=True)

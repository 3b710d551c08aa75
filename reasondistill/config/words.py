"""The forms of what reaches a scheduler, a shell or the words of a command: what does not have its
form is refused where the file is read.

sbatch reads several options in one `#SBATCH` line, parted by any white space, and nothing behind a
`#`: `partition = "cpu --export=ALL,BASH_ENV=/tmp/x"` would run /tmp/x.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator

from reasondistill.sections import short
from reasondistill.shell_secrets import found_in_shell


def on_disk(what: str) -> str:
    """Why a secret has no place in a cluster file, and where it has one."""
    return (
        f"{what} looks like a secret and would be written to disk; export it in the shell that "
        "submits the jobs"
    )


def _form(pattern: str, wanted: str) -> Any:
    """A validator for texts that match as a whole."""
    compiled = re.compile(pattern)

    def checked(text: str) -> str:
        if compiled.fullmatch(text) is None:
            kind = found_in_shell(text)
            if kind is None and "@" in text:
                kind = "what stands before its @"
            if kind is not None:
                raise ValueError(on_disk(kind))
            found = short(repr(text))
            raise ValueError(f"{found}: want {wanted}")
        return text

    return AfterValidator(checked)


# `a,b`, `a100&ib`, `[rack1*2&rack2*4]`, `high`: no white space, no quote, no `#`, no option.
SchedulerValue = Annotated[
    str,
    _form(
        r"[A-Za-z0-9_(\[][A-Za-z0-9_.,:@+&|*()\[\]/=%-]*",
        "letters, digits and any of _ . , : @ + & | * ( ) [ ] / = % -, the first no sign: sbatch "
        "would read more as options of its own",
    ),
]
# One option: `--exclude=node[13-14]`, `--comment="two words"`, `-p gpu`.
SchedulerOption = Annotated[
    str,
    _form(
        r"--?[A-Za-z](?:[^\s\"'#\\\x00-\x1f\x7f-\x9f]|\"[^\"\\\x00-\x1f\x7f-\x9f]*\""
        r"|'[^'\\\x00-\x1f\x7f-\x9f]*'| (?=[^\s-]))*",
        'one option of sbatch on one line, "--name=value", without # and \\ outside of quotes',
    ),
]
ModuleName = Annotated[
    str,
    _form(r"[A-Za-z0-9_.~/][A-Za-z0-9_.~/+:@=-]*", "the name of a module, as cuda/12.8"),
]
VariableName = Annotated[
    str, _form(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable: letters, digits and _")
]
# A program: one word of a command, which is quoted.
Program = Annotated[str, _form(r"(?!-)[^\x00-\x1f\x7f]+", "a program, or its path")]
# Words before a command, as they are.
Prefix = Annotated[str, _form(r"(?!\s*-)[^\x00-\x1f\x7f]*", "words of a shell on one line")]
# Lines of a shell, or a value that is quoted there: no program takes a NUL.
ShellLine = Annotated[str, _form(r"[^\x00]*", "a text without NUL")]
# What ray.init and Ray's dashboard take; of other schemes Ray would import a module.
RayAddress = Annotated[
    str,
    _form(
        r"auto|local|(?:(?:ray|https?)://)?[A-Za-z0-9\[][^\s/?\"'#\\\x00-\x1f\x7f]*"
        r"(?:/(?!/)[A-Za-z0-9._~%/-]*)?",
        "auto, host:port, ray://host:port or http://host:port",
    ),
]
ServerUrl = Annotated[
    str, _form(r"https?://[^\s/\"'#\\\x00-\x1f\x7f][^\s\"'#\\\x00-\x1f\x7f]*", "http://host:port")
]
# A URL of fsspec; it is a word of the tasks' commands.
StorageUrl = Annotated[str, _form(r"(?!-)[^\x00-\x1f\x7f]+", "a URL, as s3://bucket/runs")]

"""What the jail believes of the kernel's interface, put to the compiler of each architecture with that one's headers.

Where no compiler for an architecture is installed its test is skipped. On Debian `gcc-aarch64-linux-gnu` and
`linux-libc-dev-arm64-cross` bring what another machine needs to check aarch64.
"""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from thor_tir.sandbox.jail import calls, kernel, landlock, seccomp

HEADERS = (
    *("asm/unistd.h", "asm/fcntl.h", "asm/ioctls.h", "asm/mman.h", "asm/siginfo.h", "linux/audit.h", "linux/fcntl.h"),
    *(
        "linux/filter.h",
        "linux/landlock.h",
        "linux/mount.h",
        "linux/personality.h",
        "linux/prctl.h",
        "linux/resource.h",
    ),
    *("linux/sched.h", "linux/seccomp.h", "stddef.h"),
)
NEWER = {"__NR_fchmodat2"}
"""Younger than the headers of some systems in use: looked at where the header knows them."""
OF_THE_C_LIBRARY = {"MNT_DETACH"}


def compiler_of(architecture: str) -> str | None:
    native = "gcc" if platform.machine() == architecture else None
    return shutil.which(f"{architecture}-linux-gnu-gcc") or (native and shutil.which(native))


def numbers(architecture: str) -> dict[str, int]:
    """Every system call by the header's name for it."""
    known = {name: at for table in calls.all_tables() for name, at in calls.numbers(table, architecture).items()}
    own = kernel.NUMBERS[architecture]
    known |= {name: getattr(own, name) for name in ("pivot_root", "capset", "seccomp", "waitid")}
    later = {name.removeprefix("SYS_").lower(): at for name, at in vars(kernel).items() if name.startswith("SYS_")}
    return {f"__NR_{name}": at for name, at in (known | later).items()}


def constants(architecture: str) -> dict[str, int]:
    """Every other constant by the header's name for it."""
    of_kernel = {n: at for n, at in vars(kernel).items() if n.isupper() and n[0] != "_" and isinstance(at, int)}
    names = {
        "TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX": seccomp._HARMLESS_IOCTLS,
        "F_SETOWN F_SETSIG F_SETOWN_EX F_SETLEASE F_NOTIFY": seccomp._SIGNALLING_FCNTLS,
        "PR_SET_NAME PR_GET_NAME PR_GET_DUMPABLE PR_GET_TID_ADDRESS": seccomp._HARMLESS_PRCTLS,
        "SECCOMP_RET_ALLOW SECCOMP_RET_KILL_PROCESS SECCOMP_RET_ERRNO": (seccomp._ALLOW, seccomp._KILL, seccomp._ERRNO),
        "CLONE_THREAD": (seccomp._CLONE_THREAD,),
        "SECCOMP_SET_MODE_FILTER": (1,),
        "(CLONE_NEWNS|CLONE_NEWCGROUP|CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWUSER|CLONE_NEWPID|CLONE_NEWNET)": (
            seccomp._NEW_NAMESPACES,
        ),
        "CLONE_FILES": (kernel._CLONE_FILES,),
        "(BPF_LD|BPF_W|BPF_ABS) (BPF_JMP|BPF_JEQ|BPF_K) (BPF_JMP|BPF_JSET|BPF_K) (BPF_JMP|BPF_JGE|BPF_K) BPF_RET": (
            *(seccomp._LOAD, seccomp._JUMP_EQUAL, seccomp._JUMP_SET, seccomp._JUMP_AT_LEAST, seccomp._RETURN),
        ),
        "LANDLOCK_ACCESS_FS_EXECUTE LANDLOCK_ACCESS_FS_READ_FILE LANDLOCK_ACCESS_FS_READ_DIR": (
            *(landlock._EXECUTE, landlock._READ_FILE, landlock._READ_DIR),
        ),
        "LANDLOCK_ACCESS_FS_WRITE_FILE LANDLOCK_ACCESS_FS_REFER": (landlock._WRITE_FILE, landlock._REFER),
        "LANDLOCK_RULE_PATH_BENEATH LANDLOCK_CREATE_RULESET_VERSION": (1, 1),
    }
    given = {name: value for row, values in names.items() for name, value in zip(row.split(), values, strict=True)}
    audit = {f"AUDIT_ARCH_{architecture.upper()}": kernel.AUDIT_ARCH[architecture]}
    return {name: at for name, at in (of_kernel | given | audit).items() if not name.startswith("SYS_")}


LAYOUTS = {
    "sizeof(siginfo_t)": 128,
    "offsetof(siginfo_t, si_code)": 8,
    "offsetof(siginfo_t, si_status)": 24,
    "sizeof(struct rusage)": 144,
    "offsetof(struct rusage, ru_stime)": 16,
    "offsetof(struct rusage, ru_maxrss)": 32,
    "offsetof(struct seccomp_data, nr)": 0,
    "offsetof(struct seccomp_data, arch)": 4,
    "offsetof(struct seccomp_data, args[1])": 24,
    "sizeof(struct sock_filter)": 8,
    "offsetof(struct sock_fprog, filter)": 8,
    "sizeof(struct mount_attr)": 32,
    "sizeof(long)": 8,
    "__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__": 1,
}
"""What the jail packs and unpacks by hand."""


def claims(architecture: str) -> Iterator[str]:
    """Lines of C that compile if and only if what is believed is true."""
    for header in HEADERS:
        yield f"#include <{header}>"
    known = numbers(architecture)
    for name, at in {**known, **constants(architecture), **LAYOUTS}.items():
        claim = f'_Static_assert(({name}) == {at:#x}, "{name}");'
        yield f"#ifdef {name}\n{claim}\n#endif" if name in NEWER else claim
    for name in {name for table in calls.all_tables() for name in table}:
        if f"__NR_{name}" not in known:
            yield f"#ifdef __NR_{name}\n#error {name} is said to be absent\n#endif"


def complaints(architecture: str, lines: Iterator[str], folder: Path) -> str:
    compiler = compiler_of(architecture)
    if compiler is None:
        pytest.skip(f"no compiler for {architecture} is installed")
    source = folder / "claims.c"
    source.write_text("\n".join(lines) + "\n")
    if "unistd.h: No such file" in (said := _compiled(compiler, source)):
        pytest.skip(f"no headers of the kernel for {architecture} are installed")
    return said


def _compiled(compiler: str, source: Path) -> str:
    done = subprocess.run([compiler, "-fsyntax-only", str(source)], capture_output=True, text=True, check=False)
    return done.stderr


@pytest.mark.parametrize("architecture", sorted(kernel.AUDIT_ARCH))
def test_numbers_constants_and_layouts_are_those_of_the_kernels_headers(architecture: str, tmp_path: Path) -> None:
    asked = [line for line in claims(architecture) if not any(name in line for name in OF_THE_C_LIBRARY)]
    assert len(asked) > 240
    assert complaints(architecture, iter(asked), tmp_path) == ""


@pytest.mark.parametrize("architecture", sorted(kernel.AUDIT_ARCH))
def test_a_wrong_number_would_be_told(architecture: str, tmp_path: Path) -> None:
    wrong = [
        "#include <asm/unistd.h>",
        f'_Static_assert(__NR_read == {1 + numbers(architecture)["__NR_read"]}, "read");',
    ]
    assert "static assertion failed" in complaints(architecture, iter(wrong), tmp_path)

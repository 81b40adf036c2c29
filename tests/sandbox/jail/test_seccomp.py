"""The filter's own decisions, on both architectures, found by running it in a small interpreter of such programs."""

import errno
import struct

import pytest

from thor_tir.sandbox.jail import calls, kernel
from thor_tir.sandbox.jail.seccomp import program

PID = 2
ALLOW, KILL = "allow", "kill"
X32 = 0x40000000
ARCHITECTURES = sorted(kernel.AUDIT_ARCH)


def judge(code: bytes, *, arch: int, number: int, arguments: tuple[int, ...] = ()) -> str:
    """What the kernel does with a call: classic BPF over `struct seccomp_data`, as in its networking/filter.rst."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*arguments, *(0,) * 6)[:6])
    operations = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    accumulator, at = 0, 0
    while True:  # it cannot loop: jumps only go forward, and leaving the program is an IndexError
        kind, yes, no, k = operations[at]
        at += 1
        match kind:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                (accumulator,) = struct.unpack_from("=I", data, k)
            case 0x15 | 0x35 | 0x45:  # BPF_JMP | BPF_K with JEQ, JGE, JSET
                holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[kind]
                at += yes if holds else no
            case 0x06:  # BPF_RET | BPF_K
                said = {0x7FFF0000: ALLOW, 0x80000000: KILL}
                return said.get(k) or errno.errorcode[k - 0x00050000]
            case _:
                raise ValueError(kind)


def verdict(architecture: str, number: int, *arguments: int, may_change: bool = True) -> str:
    code = program(architecture, pid=PID, may_change=may_change)
    return judge(code, arch=kernel.AUDIT_ARCH[architecture], number=number, arguments=arguments)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("may_change", [True, False])
def test_of_all_numbers_the_listed_ones_alone_are_allowed(architecture: str, *, may_change: bool) -> None:
    code = program(architecture, pid=PID, may_change=may_change)
    arch = kernel.AUDIT_ARCH[architecture]
    seen = {number: judge(code, arch=arch, number=number, arguments=(99, 99)) for number in range(512)}
    bound = calls.numbers(calls.BOUND, architecture)
    listed = {*calls.numbers(calls.FREE, architecture).values(), bound["setrlimit"], bound["fcntl"]}
    if may_change:
        listed |= {*calls.numbers(calls.UNMEDIATED, architecture).values()}
    assert {number for number, said in seen.items() if said == ALLOW} == listed
    unknown = {*calls.numbers(calls.UNKNOWN, architecture).values()}
    assert {number for number, said in seen.items() if said == "ENOSYS"} == unknown
    assert all(said == "EPERM" for number, said in seen.items() if number not in listed | unknown)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_files_of_the_host_cannot_be_emptied_by_name_where_landlock_alone_protects_them(architecture: str) -> None:
    number = calls.numbers(calls.UNMEDIATED, architecture)["truncate"]
    assert verdict(architecture, number, may_change=False) == "EPERM"  # Landlock looks at it since Linux 6.2 only
    assert verdict(architecture, number) == ALLOW


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_calls_of_another_architecture_kill(architecture: str) -> None:
    code = program(architecture, pid=PID, may_change=True)
    for foreign in (0x40000003, 0x40000028, 0, *kernel.AUDIT_ARCH.values()):  # i386, arm, none, and both of ours
        said = judge(code, arch=foreign, number=calls.FREE["read"][architecture == "aarch64"])
        assert said == (ALLOW if foreign == kernel.AUDIT_ARCH[architecture] else KILL)


def test_the_second_table_of_x86_64_kills_and_its_last_neighbours_do_not() -> None:
    for number in (X32, X32 + 1, X32 + 59, X32 + 512, 0xFFFFFFFF):
        assert verdict("x86_64", number) == KILL
    assert verdict("x86_64", X32 - 1) == "EPERM"
    assert verdict("aarch64", X32 + 1) == "EPERM"  # it has no second table


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_program_may_start_threads_and_neither_processes_nor_namespaces(architecture: str) -> None:
    number = calls.numbers(calls.BOUND, architecture)["clone"]
    thread = 0x003D0F00  # the flags of glibc's pthread_create
    assert verdict(architecture, number, thread) == ALLOW
    assert verdict(architecture, number, 17) == "EPERM"  # SIGCHLD alone is fork
    assert verdict(architecture, number, 0x4111) == "EPERM"  # vfork
    spaces = (kernel.CLONE_NEWNS, kernel.CLONE_NEWUTS, kernel.CLONE_NEWIPC, kernel.CLONE_NEWUSER, kernel.CLONE_NEWPID)
    for flag in (*spaces, kernel.CLONE_NEWNET, kernel.CLONE_NEWCGROUP):
        assert verdict(architecture, number, thread | flag) == "EPERM"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("kill", [(0, 9), (PID, 9)], [(1, 9), (PID + 1, 9), (2**32 - 1, 9)]),
        ("tgkill", [(PID, 7, 9)], [(0, PID, 9), (1, 1, 9)]),
        ("prlimit64", [(0, 7), (PID, 7)], [(1, 7)]),
        (
            "ioctl",
            [(0, 0x5401), (1, 0x541B)],
            [(0, 0x5412), (0, 0x5414), (0, 0x8912)],
        ),  # TIOCSTI TIOCSWINSZ SIOCGIFCONF
        (
            "fcntl",
            [(1, 1), (1, 2), (1, 3), (1, 4), (1, 1030), (1, 1031)],
            [(1, 8), (1, 10), (1, 15), (1, 1024), (1, 1026)],
        ),
        ("prctl", [(15,), (16,)], [(4,), (8,), (22,), (24,), (38,), (59,)]),
    ],
)
def test_calls_with_a_condition_look_at_the_right_argument(
    architecture: str, name: str, allowed: list[tuple[int, ...]], refused: list[tuple[int, ...]]
) -> None:
    number = calls.numbers(calls.BOUND, architecture)[name]
    assert {verdict(architecture, number, *arguments) for arguments in allowed} == {ALLOW}
    assert {verdict(architecture, number, *arguments) for arguments in refused} == {"EPERM"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_jump_stays_inside_the_program_which_the_kernel_accepts(architecture: str) -> None:
    code = program(architecture, pid=PID, may_change=True)
    operations = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    assert len(operations) <= 4096  # BPF_MAXINSNS
    for at, (kind, yes, no, _) in enumerate(operations):
        if kind in (0x15, 0x35, 0x45):
            assert at + 1 + max(yes, no) < len(operations)
    assert operations[-1][0] == 0x06

"""Who else may read or replace a file of the service decides whether it starts (reliability, T-26)."""

import os
import stat
import subprocess

import pytest

SECRETS = ("ca.key", "server.key", "access-keys.json", "credentials", "adit.db", "notify.key")
MODES = ((0o600, True), (0o400, None), (0o640, False), (0o604, False), (0o620, False), (0o602, False))
DIRECTORY_MODES = ((0o700, True), (0o755, True), (0o770, False), (0o702, False))


@pytest.fixture(scope="module")
def kept(new_service):
    """A data directory that was used, and is at rest."""
    return new_service().stop()


def try_to_start(service):
    """Whether it starts; what it said, if not."""
    service.log.write_text("")
    try:
        service.start()
    except AssertionError:
        return False, service.log.read_text()
    service.stop()
    return True, ""


def check(service, path, mode, accepted, wanted):
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode)
    try:
        started, said = try_to_start(service)
    finally:
        path.chmod(before)
    assert started == accepted, (path.name, oct(mode), said)
    if not accepted:
        assert service.process.returncode == 6
        assert str(path) in said and f"mode {mode:04o}" in said, said
        assert wanted in said, said


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mode, accepted", [(m, a) for m, a in MODES if a is not None],
                         ids=lambda value: f"{value:o}" if type(value) is int else "")
def test_a_secret_that_others_may_touch_is_refused(kept, name, mode, accepted):
    check(kept, kept.directory / name, mode, accepted, "chmod 600")


@pytest.mark.parametrize("mode, accepted", DIRECTORY_MODES, ids=lambda value: f"{value:o}" if type(value) is int else "")
def test_a_directory_that_others_may_write_is_refused(kept, mode, accepted):
    check(kept, kept.directory, mode, accepted, "chmod")


def test_everything_is_made_for_the_owner_alone_whatever_the_umask(new_service):
    before = os.umask(0)
    try:
        service = new_service()
        service.client().open_tunnel()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in service.directory.iterdir()}
    assert stat.S_IMODE(service.directory.stat().st_mode) == 0o700
    public = {"ca.pem", "server.pem", "endpoints.json"}
    wrong = {name: oct(mode) for name, mode in modes.items() if mode & (0o022 if name in public else 0o077)}
    assert not wrong
    assert {*SECRETS, "clock"} <= modes.keys()

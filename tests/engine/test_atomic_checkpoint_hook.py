"""Checkpoints stay complete if a process is killed or a disk is full."""

import pickle
import random
import resource

import mmengine.runner.checkpoint as mmengine_checkpoint
import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import find_latest_checkpoint

from mmgwap.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook, AtomicLocalBackend
from tests.checkpoints import read_checkpoint

from .conftest import EPOCHS

WRITER = """
import os, signal, sys, time
from mmgwap.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook, AtomicLocalBackend
for delay in map(float, sys.argv[2:]):
    if os.path.exists(sys.argv[1] + '.tmp'):
        os.remove(sys.argv[1] + '.tmp')
    pid = os.fork()
    if not pid:
        while True:
            for number in range(256):
                AtomicLocalBackend().put(bytes([number]) * 20_000_000, sys.argv[1])
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.001)
    while not os.path.exists(sys.argv[1] + '.tmp'):
        pass
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    content = open(sys.argv[1], 'rb').read()
    assert len(content) == 20_000_000 and len(set(content)) == 1
    print(os.path.exists(sys.argv[1] + '.tmp'))
"""


def test_put_writes_and_replaces(tmp_path):
    path = tmp_path / 'folder' / 'file'
    backend = AtomicLocalBackend()
    for content in (b'first', b'', b'the third'):
        backend.put(content, path)
        assert path.read_bytes() == content
    backend.put_text('grün', str(path))
    assert path.read_text(encoding='utf-8') == 'grün'
    assert [file.name for file in path.parent.iterdir()] == ['file']


def test_killed_writer_leaves_a_complete_file(tool, tmp_path):
    rng = random.Random(0)
    delays = [rng.uniform(0, 0.02) for _ in range(6)]
    within = tool('-c', WRITER, tmp_path / 'file', *delays).stdout.split()[-6:]
    assert 'True' in within, 'no kill came during a write'


def names_in(folder):
    return {path.name for path in folder.glob('*.pth')}


@pytest.mark.parametrize('kept', [1, 2, -1])
def test_checkpoints_to_keep(training, tmp_path, kept):
    changes = {'default_hooks.checkpoint.max_keep_ckpts': kept}
    training(5, **changes)
    folder, first = tmp_path / 'run', 0 if kept < 0 else -kept
    assert names_in(folder) == {f'iter_{step}.pth' for step in (2, 4, 5)[first:]}
    # A resumed run continues the list.
    training(6, resume=True, **changes)
    assert names_in(folder) == {f'iter_{step}.pth' for step in (2, 4, 5, 6)[first:]}
    assert find_latest_checkpoint(str(folder)) == str(folder / 'iter_6.pth')
    assert not list(folder.glob('*.tmp'))


def test_checkpoints_equal_those_of_mmengine(training, tmp_path):
    """Files have the same content, and the same checkpoint is the best."""
    best = {
        'default_hooks.checkpoint.save_best': 'coco/bbox_mAP',
        'default_hooks.checkpoint.max_keep_ckpts': 1,
        'train_cfg.val_interval': 2,
    }
    training(4, 'ours', **best)
    training(4, 'host', **best, **{'default_hooks.checkpoint.type': 'CheckpointHook'})
    ours, host = (
        {path.name: read_checkpoint(path) for path in (tmp_path / name).glob('*.pth')}
        for name in ('ours', 'host')
    )
    assert set(ours) == set(host)
    assert any(name.startswith('best_') for name in ours)
    for name, state in ours.items():
        assert set(state) == set(host[name])
        assert set(state['meta']) == set(host[name]['meta'])
        for key, value in state['state_dict'].items():
            assert torch.equal(value, host[name]['state_dict'][key])
        ours_kept, host_kept = (
            checkpoint['message_hub']['runtime_info'].get('keep_ckpt_ids')
            for checkpoint in (state, host[name])
        )
        assert ours_kept == host_kept


def test_file_names_without_the_step(training, tmp_path):
    """The new checkpoint has the path of the outdated checkpoint."""
    name = {'default_hooks.checkpoint.filename_tmpl': 'latest.pth'}
    training(6, **name, **{'default_hooks.checkpoint.max_keep_ckpts': 1})
    folder = tmp_path / 'run'
    assert find_latest_checkpoint(str(folder)) == str(folder / 'latest.pth')
    assert read_checkpoint(folder / 'latest.pth')['meta']['iter'] == 6


def test_best_checkpoints_of_the_same_name(training, tmp_path):
    """In an iteration-based loop, mmengine names all best checkpoints epoch_0 by default."""

    class Better(Hook):
        priority = 'HIGHEST'

        def after_val_epoch(self, runner, metrics=None):
            metrics['coco/bbox_mAP'] = runner.iter / 10

    changes = {
        'default_hooks.checkpoint.by_epoch': True,
        'default_hooks.checkpoint.save_best': 'coco/bbox_mAP',
        'train_cfg.val_interval': 2,
    }
    training(4, hooks=[Better()], **changes)
    (best,) = (tmp_path / 'run').glob('best_*.pth')
    assert read_checkpoint(best)['meta']['iter'] == 4


def test_epoch_based_loops(training, tmp_path):
    training(0, **dict(EPOCHS, train_cfg=dict(EPOCHS['train_cfg'], max_epochs=2)))
    assert names_in(tmp_path / 'run') == {'epoch_1.pth', 'epoch_2.pth'}


def test_full_disk(training, tmp_path):
    """A limit of the file size fails in the middle of a file, as a full disk does."""
    training(2)
    folder = tmp_path / 'run'
    good = (folder / 'iter_2.pth').read_bytes()
    plain = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) // 2, plain[1]))
    try:
        with pytest.raises(RuntimeError) as caught:
            training(4, resume=True, **{'default_hooks.checkpoint.max_keep_ckpts': 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, plain)
    message = str(caught.value)
    assert message.startswith(f'cannot save a checkpoint of {folder}: ')
    assert 'File too large' in message and '\n' not in message
    assert f'{folder / "iter_2.pth"} is complete' in message
    assert (folder / 'iter_2.pth').read_bytes() == good
    assert find_latest_checkpoint(str(folder)) == str(folder / 'iter_2.pth')
    assert not list(folder.glob('*.tmp'))
    # The run continues when there is space again.
    training(4, resume=True)
    assert find_latest_checkpoint(str(folder)) == str(folder / 'iter_4.pth')


def test_full_disk_at_the_first_checkpoint(training, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmgwap.engine.hooks.atomic_checkpoint_hook.os.fsync', full)
    with pytest.raises(RuntimeError, match='No space left on device; no earlier checkpoint'):
        training(2)
    assert not list((tmp_path / 'run').glob('*.pth*'))
    assert not (tmp_path / 'run' / 'last_checkpoint').exists()


@pytest.mark.parametrize('option', ['out_dir', 'backend_args', None])
def test_only_local_files_are_atomic(training, tmp_path, option):
    values = dict(out_dir=str(tmp_path / 'out'), backend_args=dict(backend='local'))
    changes = {f'default_hooks.checkpoint.{option}': values[option]} if option else {}
    runner = training(1, **changes)
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    assert isinstance(hook.file_backend, AtomicLocalBackend) == (option != 'backend_args')
    folder = tmp_path / ('out/run' if option == 'out_dir' else 'run')
    assert read_checkpoint(folder / 'iter_1.pth')


def load_as_mmengine_0_10_7(monkeypatch):
    """Call torch.load without a list of safe globals."""
    monkeypatch.setattr(
        mmengine_checkpoint,
        '_safe_torch_load',
        lambda file, map_location=None, weights_only=None: torch.load(file, map_location),
        raising=False,
    )


@pytest.mark.parametrize('hook', ['AtomicCheckpointHook', 'ExactResumeHook', None])
def test_hooks_let_mmengine_read_its_checkpoints(training, monkeypatch, hook):
    changes = {'custom_hooks': [dict(type=f'mmgwap.{hook}')] if hook == 'ExactResumeHook' else []}
    if hook != 'AtomicCheckpointHook':
        changes['default_hooks.checkpoint.type'] = 'CheckpointHook'
    training(2, **changes)
    load_as_mmengine_0_10_7(monkeypatch)
    before = set(torch.serialization.get_safe_globals())
    if hook:
        assert training(3, resume=True, **changes).iter == 3
    else:
        with pytest.raises(pickle.UnpicklingError):
            training(3, resume=True, **changes)
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_runner_may_load_a_checkpoint_outside_of_a_run():
    AtomicCheckpointHook(interval=1).after_load_checkpoint(None, {})


def test_published_checkpoints_are_read_safely(training, tmp_path, monkeypatch):
    load_as_mmengine_0_10_7(monkeypatch)
    training(2, **{'default_hooks.checkpoint.published_keys': ['meta', 'state_dict']})
    (published,) = (tmp_path / 'run').glob('iter_2-*.pth')
    assert set(torch.load(published, weights_only=True)) == {'meta', 'state_dict'}

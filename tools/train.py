"""Train a detector: mmdet's own tools/train.py, with safe checkpoints."""
from mmgwap.host_tools import run_tool

if __name__ == '__main__':
    run_tool('train.py')

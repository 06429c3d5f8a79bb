_base_ = [
    '../_base_/models/cam_efficientnet-lite0.py',
    '../_base_/datasets/ilsvrc_cls_loc.py',
    '../_base_/schedules/wsol_10e.py',
]

# The first WordNet lemma of each class, in the order of the WordNet ids, from timm 1.0.31
# (Apache 2.0): imagenet_synsets.txt and imagenet_synset_to_lemma.txt. The two cranes and the
# second maillot (tank suit) have names that tell them apart.
metainfo = dict(classes='{{ fileDirname }}/../_base_/datasets/imagenet_classes.txt')
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = dict(dataset=dict(metainfo=metainfo))

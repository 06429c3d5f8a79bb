# Global average pooling instead of GWAP.
_base_ = 'rfcn_r18_gwap_cards-p20.py'

model = dict(cls_head=dict(pool=dict(type='mmgwap.GlobalAvgPool')))

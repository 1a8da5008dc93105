"""Published AUC and Logloss on test parts, by dataset and by name of a setting.

PAPER: Tables 2 and 3 of DLF (Wang et al., SIGIR 2025, https://arxiv.org/abs/2505.19182); means of five runs,
embeddings of width 64. Table 2 has no row for AFN. Figures 3 and 4 print no numbers.

LEADERBOARD: public leaderboards of the splits Frappe_x1, MovielensLatest_x1, Criteo_x1 and Avazu_x1; the best
single run of each model, embeddings of width 10. Of QNN (width 16) and EulerNet, which are not on them, the
runs of their authors' logs on the same splits.
"""

from __future__ import annotations

# Metrics of the pairs below.
PUBLISHED_METRICS = ('auc', 'logloss')
# (AUC, Logloss) by dataset and by name of a setting.
Scores = dict[str, dict[str, tuple[float, float]]]


def _columns(datasets: str, rows: str) -> Scores:
    """Reads a table.

    Args:
      datasets: names of the datasets, in the order of columns.
      rows: a line per setting: its name, then AUC and Logloss for each dataset.
    """
    scores: Scores = {dataset: {} for dataset in datasets.split()}
    for line in rows.strip().splitlines():
        name, *values = line.split()
        for dataset, auc, logloss in zip(scores, values[::2], values[1::2], strict=True):
            scores[dataset][name] = (float(auc), float(logloss))
    return scores


_TABLE_2 = _columns(
    'avazu criteo movielens frappe',
    """
    fm        0.7509 0.3769  0.7931 0.4587  0.9424 0.2737  0.9609 0.2297
    afm       0.7526 0.3719  0.7966 0.4540  0.9451 0.2658  0.9602 0.2218
    sam       0.7527 0.3722  0.7990 0.4523  0.9491 0.2617  0.9606 0.2216
    autoint   0.7539 0.3740  0.8084 0.4435  0.9430 0.2705  0.9680 0.2231
    dcn       0.7537 0.3745  0.8085 0.4428  0.9448 0.2708  0.9687 0.2161
    dcnv2     0.7565 0.3722  0.8085 0.4431  0.9423 0.2774  0.9717 0.2137
    deepfm    0.7540 0.3742  0.8087 0.4462  0.9428 0.2800  0.9688 0.2139
    xdeepfm   0.7532 0.3786  0.8088 0.4436  0.9418 0.2792  0.9691 0.2287
    finalnet  0.7577 0.3711  0.8088 0.4430  0.9495 0.2608  0.9788 0.1810
    finalmlp  0.7533 0.3741  0.8088 0.4429  0.9438 0.2741  0.9607 0.2399
    gdcn      0.7529 0.3750  0.8095 0.4414  0.9416 0.2785  0.9615 0.2307
    pnn       0.7543 0.3741  0.8096 0.4416  0.9472 0.2745  0.9743 0.2116
    edcn      0.7578 0.3709  0.8092 0.4418  0.9472 0.2357  0.9649 0.2357
    wukong    0.7580 0.3715  0.8091 0.4424  0.9502 0.2285  0.9794 0.1867
    dlf       0.7601 0.3706  0.8106 0.4412  0.9515 0.2223  0.9812 0.1679
    """,
)
_TABLE_3 = _columns(
    'criteo avazu',
    """
    dlf:wo_gate     0.8095 0.4422  0.7591 0.3719
    dlf:wo_rli      0.8091 0.4428  0.7590 0.3721
    dlf:wo_naf      0.8083 0.4438  0.7575 0.3726
    dlf:wo_rli_naf  0.8084 0.4437  0.7563 0.3731
    """,
)
PAPER: Scores = {dataset: {**rows, **_TABLE_3.get(dataset, {})} for dataset, rows in _TABLE_2.items()}
_BOARDS: Scores = _columns(
    'frappe movielens criteo avazu',
    """
    lr         .9356 .3076  .9342 .3201  .7886 .4609  .7516 .3735
    fm         .9671 .2065  .9434 .2729  .8022 .4491  .7613 .3677
    afm        .9697 .2264  .9472 .2653  .8044 .4470  .7574 .3705
    sam        .9801 .1735  .9631 .2667  .8131 .4389  .7632 .3672
    autoint    .9831 .1637  .9663 .2228  .8126 .4392  .7624 .3678
    autoint:+  .9848 .1490  .9692 .2148  .8139 .4379  .7645 .3668
    dcn        .9839 .1527  .9687 .2160  .8138 .4381  .7652 .3665
    dcnv2      .9845 .1491  .9691 .2147  .8142 .4378  .7656 .3664
    deepfm     .9842 .1482  .9685 .2130  .8137 .4381  .7648 .3667
    xdeepfm    .9845 .1466  .9697 .2409  .8139 .4380  .7647 .3671
    pnn        .9841 .1540  .9699 .2095  .8137 .4383  .7630 .3676
    afn        .9811 .2331  .9611 .2963  .8107 .4414  .7547 .3729
    afn:+      .9826 .2139  .9642 .3030  .8143 .4377  .7640 .3671
    edcn       .9850 .1547  .9671 .2122  .8147 .4373  .7652 .3670
    finalmlp   .9861 .1484  .9720 .1966  .8149 .4370  .7666 .3658
    finalnet   .9857 .1311  .9725 .1941  .8154 .4365  .7672 .3653
    masknet    .9837 .1696  .9672 .2364  .8139 .4380  .7643 .3674
    fibinet    .9832 .1941  .9576 .2518  .8130 .4388  .7645 .3673
    dlrm       .9840 .1444  .9691 .2150  .8138 .4382  .7639 .3669
    mlp        .9833 .1622  .9678 .2388  .8137 .4382  .7638 .3674
    """,
)
_AUTHORS: Scores = {
    'frappe': {'qnn': (0.9862, 0.1313), 'eulernet': (0.9848, 0.1313)},
    'movielens': {'eulernet': (0.9703, 0.1988)},
    'avazu': {'eulernet': (0.7645, 0.3672)},
}
LEADERBOARD: Scores = {dataset: {**rows, **_AUTHORS.get(dataset, {})} for dataset, rows in _BOARDS.items()}

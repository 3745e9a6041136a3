"""Which model and recipe make the most of a few thousand real recordings within an hour of two CPU cores.

    python -m jobs.prepare --source ptbxl --input PTB-XL --rate_hz 100 --ptbxl.val_fold 8 --ptbxl.test_fold 9 --output W
    python -m benchmarks.proof --waveforms W --output runs/proof --stage choose --seeds 100 --recipes RECIPES
    python -m benchmarks.proof --waveforms W --output runs/proof --stage judge --seeds 0 1 2 3 4 --recipes resnet CHOSEN
    python -m benchmarks.proof --waveforms W --output runs/proof --stage judge --label_set conditions ...

The protocol, fixed before any recipe but the baseline was judged on fold 9:

- Recordings: the subset of PTB-XL described in README.md. `superclass` is learnt from those drawn at random (tag
  `natural`) and judged on those of them that carry a superclass; `conditions` is learnt from and judged on all. Atrial
  flutter is learnt, but too rare to be judged on one fold.
- Choosing: recipes are trained on folds 1 to 7 and compared by macro AUROC on fold 8, with a seed (100) that is none of
  those that are judged. Judging: trained on folds 1 to 8, seeds 0 to 4, judged on fold 9; nothing is chosen by it.
- Baseline: the recipe `resnet`, a plain one-dimensional residual network of 0.6 million weights, 2.5 s random crops,
  AdamW under a one-cycle schedule, 30 epochs. It was judged on fold 9 as it stands, before any other recipe was.
- All recipes: the mean probability of seven crops of 2.5 s that begin every 1.25 s; the weights after the last step, no
  checkpoint is picked; no recipe may cost more than an hour of two cores.
- Statistic: macro AUROC; spread over seeds as their standard deviation; the gain over the baseline with the 95 %
  interval of a paired bootstrap over patients and seeds (hubert_ecg/evaluation/paired.py).

Where it stands (benchmarks/results/proof.json; the folds that were looked at must be known to whoever goes on): the
first candidate, `state_space_auxiliary_augment`, was chosen for want of others, had 0.932 on fold 8, and was judged on
fold 9 with seed 0: 0.923 beside 0.931 of the baseline. Neither the other seeds and recipes nor `conditions` have been
run yet; what comes next is to be chosen on fold 8, not by this figure.

What differs between recipes stands in recipes.py. The same command goes on where it was stopped, trial by trial; no Ray
is needed after jobs.prepare.
"""

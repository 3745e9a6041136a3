"""Which model and recipe make the most of a few thousand real recordings within an hour of two CPU cores.

    python -m benchmarks.proof --input FOLDER --seeds 100 --recipes RECIPES
    python -m benchmarks.proof --input FOLDER --stage judge --seeds 0 1 2 3 4 --new_seed 5 --recipes resnet CHOSEN
    python -m benchmarks.proof --input FOLDER --label_set conditions --stage judge --seeds 0 1 2 3 4 --recipes ...
    python -m benchmarks.proof --input FOLDER --label_set conditions --stage rotate --seeds 0 --recipes CHOSEN

The protocol, fixed before any recipe but the baseline was judged on fold 9:

- Recordings: the subset of PTB-XL that benchmarks.subset lays out. `superclass` is learnt from those drawn at random
  (tag `natural`) and judged on those of them that carry a superclass; `conditions` is learnt from and judged on all.
  Atrial flutter is learnt, but too rare to be judged on one fold.
- Choosing: recipes are trained on folds 1 to 7 and compared by macro AUROC on fold 8, with a seed (100) that is none of
  those that are judged. Judging: trained on folds 1 to 8, seeds 0 to 4, judged on fold 9; nothing is chosen by it.
- Baseline: the recipe `resnet`, a plain one-dimensional residual network of 0.6 million weights, 2.5 s random crops,
  AdamW under a one-cycle schedule, 30 epochs. It was judged on fold 9 as it stands, before any other recipe was. What
  its author would try next is among the recipes that are compared on fold 8: four trials of the baseline (at a slower
  rate, with more weight decay, for twice as long), and four of ours (the same network with more to learn from, and the
  state-space encoder).
- All recipes: the mean probability of crops that begin every half of their length (seven crops of 2.5 s); the weights
  after the last step, no checkpoint is picked; no recipe may cost more than an hour of two cores. `CPU s` is that of
  one training, without a pre-training.
- Statistic: macro AUROC; spread over seeds as their standard deviation; the gain over the baseline with the 95 %
  interval of a paired bootstrap over patients and seeds (hubert_ecg/evaluation/paired.py). A sixth seed, which has no
  part in either, is told in standard deviations from the mean. `all models together`: the mean of their probabilities.
- Flutter: nine-fold cross-validation with seed 0 (rotation.py).
- HuBERT: size `tiny`, from the two iterations of pre-training of jobs/configs/ptbxl_two_iterations.yaml, which have
  seen the ECGs of folds 1 to 7 and no labels (the loss on the ECGs of fold 8 chooses among their checkpoints); on leads
  that are scaled one by one, as published, or that keep their voltage. `side_by_side` is its transformer behind another
  stem; `side_by_side_as_hubert` differs from `hubert` in nothing else.

The folds that were looked at: before `resnet_auxiliary_augment` was tried at all, `state_space_auxiliary_augment` had
been judged on fold 9 with seed 0 (0.923 beside 0.931 of the baseline), and jobs/configs/ptbxl_residual.yaml was tried
there with two epochs. What was chosen since was chosen on fold 8: natural recordings, seed 100, 0.9459 for
`resnet_auxiliary_augment`; 0.9447 without the auxiliary targets, 0.9411 without the augmentation, 0.9414 for the
baseline, 0.9399 with more weight decay and 0.9358 at a slower rate. The recipes of HuBERT, and the baseline for twice
as long (0.9331), were compared on fold 8 afterwards.

What differs between recipes stands in recipes.py. The same command goes on where it was stopped, trial by trial.
"""

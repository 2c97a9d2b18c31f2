"""The words of the findings in English: (sentence, advice) by check, or by check.kind."""

from __future__ import annotations

KEEP = "Keep the checkpoint of step {lowest_step} (load_best_model_at_end=True, metric_for_best_model='eval_loss')"

ENGLISH: dict[str, tuple[str, str]] = {
    "nan.final": (
        "The {curve} is not a number from step {step} on ({count} points); its last finite value was {last_finite}.",
        "Nothing after step {step} has been learned: go back to a checkpoint before it. Use bf16=True instead of fp16=True, "
        "lower learning_rate (to a half or less), lengthen warmup_steps, set max_grad_norm=1.0, and look at the batch of that "
        "step for empty or all-ignored labels.",
    ),
    "nan.always": (
        "The {curve} is not a number at any of its {count} points.",
        "Look at the first batch: empty or all-ignored labels (-100 everywhere), log(0), or fp16 overflow. Try one step in float32 "
        "(bf16=False, fp16=False); if that is finite, the precision is the cause.",
    ),
    "nan.passing": (
        "The {curve} is not finite at {count} of {points} points, first at step {step}, and finite again afterwards.",
        "Weights survived, so one batch or one overflow is the cause: look at the batch of step {step} (no label that counts?) and at "
        "the loss scale; bf16=True avoids overflow.",
    ),
    "spike.recovered": (
        "The {curve} jumps from {from} to {peak} at step {step} and comes back ({count} such spikes in all).",
        "Harmless if rare. If they return: max_grad_norm=1.0 or lower, a longer warmup_steps, adam_beta2=0.95, a somewhat lower "
        "learning_rate; and look at the batches of that step for broken or repeated text.",
    ),
    "spike.not_recovered": (
        "The {curve} jumps from {from} to {peak} at step {step} and has not come back: it ends at {after}.",
        "Restart from a checkpoint some 100 steps before step {start} and skip the batches of the spike, with a lower learning_rate "
        "or max_grad_norm.",
    ),
    "diverged": (
        "The {curve} has diverged: {best} at its best (step {start}), {last} at the end.",
        "Go back to the checkpoint before step {start} and continue with learning_rate at a third or less, a longer warmup_steps and "
        "max_grad_norm=1.0.",
    ),
    "diverged.slowly": (
        "Training and eval loss both rise, slowly but beyond doubt: the training loss by {train_rise}, the eval loss by {eval_rise}.",
        "The model is unlearning: check that a resumed run got back its learning rate, its optimizer state and its data order; "
        "otherwise lower learning_rate.",
    ),
    "lr_too_large.oscillating": (
        "The {curve} swings between {lowest} and {highest}; it began at {first}: the learning rate is too large.",
        "Lower learning_rate to a tenth; if the swings stop, double it until they return and take a third of that. Set "
        "max_grad_norm=1.0 and warmup_steps to some hundred.",
    ),
    "lr_too_large.rising": (
        "The {curve} rises from {first} to {highest} as the learning rate comes up, instead of falling: the rate is too large.",
        "Lower learning_rate to a tenth (fine-tuning often needs 1e-5 to 5e-5 for all weights, 1e-4 to 3e-4 for LoRA) and lengthen "
        "warmup_steps.",
    ),
    "lr_too_large.restless": (
        "While the learning rate is up the training loss stands near {level} and the eval loss scatters by {eval_scatter_percent}: "
        "the steps are too large to settle.",
        "Lower learning_rate to a third or a tenth. Where the loss falls as soon as the schedule lowers the rate, that is the proof.",
    ),
    "lr_too_large.dead": (
        "The {curve} fell from {first} to exactly ln {classes} = {level} and has not moved since: the outputs no longer depend on the "
        "input, which a too large learning rate does in its first steps.",
        "Lower learning_rate to a tenth and add warmup_steps; check that activations are not all zero (dead ReLU).",
    ),
    "overfit": (
        "The model overfits: the eval loss was lowest ({lowest}) at step {lowest_step} and has risen by {rise_percent} since, to {last}.",
        KEEP + " and stop there: fewer num_train_epochs, or early stopping (EarlyStoppingCallback in transformers, "
        "--early-stopping-patience in lossmith finetune). To get further: more data, more weight_decay or dropout, a smaller model "
        "or a lower learning_rate. If another metric still improves (word error rate, accuracy), judge by that one.",
    ),
    "train_val_gap": (
        "The eval loss ({eval}) is {ratio} times the training loss ({train}), without having risen.",
        "No fault by itself. More data or regularisation (weight_decay, dropout) would narrow it; training longer will not.",
    ),
    "epoch_staircase": (
        "The training loss falls in steps where epochs begin (by {mean_drop} on average, {epochs} times): the model remembers "
        "what it has seen.",
        "Usual in fine-tuning for several epochs. Judge by the eval loss alone; fewer num_train_epochs or a lower learning_rate "
        "make the steps smaller.",
    ),
    "epoch_staircase.once": (
        "The training loss falls by {mean_drop} all at once at step {start}, and no change of the learning rate explains it.",
        "Look at what changed there: a new epoch (data seen again), another stage of the data, a resumed run.",
    ),
    "suspiciously_low.leak": (
        "The eval loss is almost nothing from the start ({first_eval}, then {eval}): too good to be true.",
        "Check whether the target stands in the input, whether labels are shifted twice or not at all, and whether eval examples are "
        "among the training examples.",
    ),
    "suspiciously_low.entropy": (
        "The loss came down from {first} to {train} nats, below what unseen text holds.",
        "Check whether eval text is part of the training text, whether the data set is tiny and repeated, and whether a token can see "
        "itself (attention mask, label shift).",
    ),
    "plateau.none": (
        "The {curve} does not fall: {first} at the start, {last} at the end of {points} points.",
        "Check that gradients reach the weights (frozen layers, wrong optimizer parameters, learning_rate 0) and overfit one batch on "
        "purpose; then try learning_rate 3 to 10 times higher.",
    ),
    "plateau.noise": (
        "The {curve} shows no fall beyond its noise ({noise} a point) over {points} points: {first} to {last}.",
        "Log over more steps (logging_steps) or a larger batch (gradient_accumulation_steps) to see the trend; if there is none, try "
        "a higher learning_rate.",
    ),
    "plateau.guessing": (
        "The {curve} stands at {last}, which is guessing among {classes} classes (ln {classes}).",
        "The model has learned nothing about its input: check labels and inputs belong together, the learning_rate (try a third, and "
        "three times as much), and that one batch can be overfitted.",
    ),
    "plateau.unigram": (
        "The {curve} has stood near {last} nats for most of the log: about what token frequencies alone give.",
        "Attention has not formed: lengthen warmup_steps, try another learning_rate (a third, three times), check positions and the "
        "causal mask, and that documents are not shuffled token by token.",
    ),
    "initial_plateau": (
        "The {curve} stands near {level} for {points} points before it falls on, to {last}.",
        "Common (the model leaves the token frequencies behind late). A longer warmup_steps or a higher learning_rate shortens it.",
    ),
    "slow.rate": (
        "The {curve} hardly moves ({first} to {last}) and the learning rate never exceeds {learning_rate}: it is too small.",
        "Raise learning_rate ten times (LoRA works at 1e-4 to 3e-4, full fine-tuning at 1e-5 to 5e-5, pre-training at 3e-4 to 3e-3), "
        "and shorten warmup_steps if the log ends inside it.",
    ),
    "slow.straight": (
        "The {curve} falls along a straight line, from {first} to {last}: training is still in its first phase.",
        "Raise learning_rate 3 times and look whether the curve bends.",
    ),
    "still_falling": (
        "The {curve} still falls at the end: by {fall} over its last third, to {last}.",
        "Train longer (max_steps or num_train_epochs), and let the learning rate decay at the end.",
    ),
    "still_falling.schedule": (
        "The learning rate has decayed while the {curve} was still falling fast: by {fall} over its last third, to {last}.",
        "The schedule was too short: double max_steps (or num_train_epochs) with a schedule of that length.",
    ),
    "too_short": (
        "The log is too short to judge: {train_points} training and {eval_points} eval points.",
        "Log more often (logging_steps, eval_steps) or train longer.",
    ),
    "noisy": (
        "The training loss is noisy: single points scatter by {noise} ({part_percent} of its level), more than it gains.",
        "Average over more steps (logging_steps), or enlarge the batch (per_device_train_batch_size, gradient_accumulation_steps); "
        "do not judge by single points.",
    ),
    "lr_drop": (
        "The training loss falls faster from step {step} on ({fall_after} after {fall_before}) because the learning rate is cut there, "
        "from {rate_before} to {rate_after}.",
        "Expected. Decaying earlier would not have gained the same: the loss reached depends on the whole schedule.",
    ),
    "wrong_initial_loss.known": (
        "The first loss is {first}; a model that knows nothing loses ln {vocabulary} = {know_nothing}.",
        "The untrained model is sure of wrong things: scale the head's initialisation down (std 0.02), or divide the logits by the "
        "square root of the width.",
    ),
    "wrong_initial_loss.any": (
        "The first loss is {first}, more than knowing nothing costs with any vocabulary (ln {vocabulary} = {know_nothing}).",
        "The untrained model is sure of wrong things: scale the head's initialisation down (std 0.02), or the loss is a sum of terms "
        "or over accumulation steps.",
    ),
    "loss_scale": (
        "The training loss is {ratio} times the eval loss all along (within {spread_percent}): the two are divided differently.",
        "Divide by the number of target tokens, over all accumulation steps and ranks: a factor near gradient_accumulation_steps or "
        "the number of devices is a sum that should be a mean (transformers 4.46 and 4.47 did so).",
    ),
    "resume_jump.up": (
        "At step {step}, where the run was resumed, the training loss jumps from {before} to {after}.",
        "The checkpoint did not bring everything back: check optimizer state, learning-rate schedule, loss scale and random state.",
    ),
    "resume_jump.down": (
        "At step {step}, where the run was resumed, the training loss jumps down, from {before} to {after}.",
        "The data probably began again from the start: what the model sees it has seen before. Restore the position in the data "
        "(ignore_data_skip=False), and expect a step upwards where unseen data begins.",
    ),
    "normal": (
        "The run converges normally: {curve} from {first} to {last}; over its last third it fell by {fall_lately}.",
        "",
    ),
}

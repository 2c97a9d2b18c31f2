"""The words of the findings in Chinese: (sentence, advice) by check, or by check.kind."""

from __future__ import annotations

CHINESE: dict[str, tuple[str, str]] = {
    "nan.final": (
        "{curve}从第 {step} 步起不是数（共 {count} 个点）；最后一个有限值是 {last_finite}。",
        "第 {step} 步之后什么也没有学到：回到它之前的检查点。用 bf16=True 代替 fp16=True，把 learning_rate 降到一半或更低，"
        "加长 warmup_steps，设 max_grad_norm=1.0，并检查那一步的批次是否有空的或全被忽略的标签。",
    ),
    "nan.always": (
        "{curve}的全部 {count} 个点都不是数。",
        "检查第一个批次：标签为空或全是 -100、log(0)、fp16 溢出。用 float32(bf16=False, fp16=False)跑一步；若结果有限，原因就是精度。",
    ),
    "nan.passing": (
        "{curve}在 {points} 个点中有 {count} 个不是有限数，第一个在第 {step} 步，之后又恢复。",
        "权重没有坏，所以原因是某个批次或一次溢出：查看第 {step} 步的批次（是否没有任何有效标签）和 loss scale；bf16=True 可避免溢出。",
    ),
    "spike.recovered": (
        "{curve}在第 {step} 步从 {from} 跳到 {peak}，随后恢复（这样的尖峰共 {count} 个）。",
        "偶尔出现无妨。若反复出现：max_grad_norm=1.0 或更低，加长 warmup_steps,adam_beta2=0.95，略降 learning_rate；"
        "并查看那一步的批次是否有损坏或重复的文本。",
    ),
    "spike.not_recovered": (
        "{curve}在第 {step} 步从 {from} 跳到 {peak}，没有恢复：结束时为 {after}。",
        "从第 {start} 步之前约 100 步的检查点重新开始，跳过出现尖峰的批次，并降低 learning_rate 或 max_grad_norm。",
    ),
    "diverged": (
        "{curve}已经发散：最好时 {best}（第 {start} 步），结束时 {last}。",
        "回到第 {start} 步之前的检查点，把 learning_rate 降到三分之一或更低，加长 warmup_steps，设 max_grad_norm=1.0，再继续。",
    ),
    "diverged.slowly": (
        "训练损失和验证损失都在缓慢而确定地上升：训练损失上升 {train_rise}，验证损失上升 {eval_rise}。",
        "模型在遗忘：检查恢复的训练是否取回了学习率、优化器状态和数据顺序；否则降低 learning_rate。",
    ),
    "lr_too_large.oscillating": (
        "{curve}在 {lowest} 与 {highest} 之间大幅振荡，开始时为 {first}：学习率过大。",
        "把 learning_rate 降到十分之一；若振荡停止，再逐次加倍直到它重新出现，取那时的三分之一。设 max_grad_norm=1.0，warmup_steps 设为几百步。",
    ),
    "lr_too_large.rising": (
        "学习率升高时{curve}不降反升，从 {first} 到 {highest}：学习率过大。",
        "把 learning_rate 降到十分之一（全参数微调常用 1e-5 到 5e-5,LoRA 常用 1e-4 到 3e-4），并加长 warmup_steps。",
    ),
    "lr_too_large.restless": (
        "学习率高的时候训练损失停在 {level} 附近，验证损失上下波动 {eval_scatter_percent}：步子太大，无法收敛。",
        "把 learning_rate 降到三分之一或十分之一。如果调度一降低学习率损失就下降，那就是证明。",
    ),
    "lr_too_large.dead": (
        "{curve}从 {first} 降到恰好 ln {classes} = {level} 后再没有动过：输出不再依赖输入，过大的学习率在最初几步就会造成这种情况。",
        "把 learning_rate 降到十分之一并增加 warmup_steps；检查激活值是否全为零（ReLU 死亡）。",
    ),
    "overfit": (
        "模型过拟合：验证损失在第 {lowest_step} 步最低（{lowest}），此后上升了 {rise_percent}，到 {last}。",
        "保留第 {lowest_step} 步的检查点（load_best_model_at_end=True, metric_for_best_model='eval_loss'）并在那里停止："
        "减少 num_train_epochs，或提前停止（transformers 的 EarlyStoppingCallback，lossmith finetune 的 --early-stopping-patience）。"
        "想更进一步：更多数据、更大的 weight_decay 或 dropout、更小的模型或更低的 learning_rate。若另一个指标（词错误率、准确率）仍在变好，以那个指标为准。",
    ),
    "train_val_gap": (
        "验证损失（{eval}）是训练损失（{train}）的 {ratio} 倍，但没有上升。",
        "这本身不是毛病。更多数据或正则化（weight_decay、dropout）会缩小差距，训练更久不会。",
    ),
    "epoch_staircase": (
        "训练损失在每个 epoch 开始处成台阶下降（平均 {mean_drop}，共 {epochs} 次）：模型记住了见过的内容。",
        "多个 epoch 的微调常见如此。只看验证损失；减少 num_train_epochs 或降低 learning_rate 会使台阶变小。",
    ),
    "epoch_staircase.once": (
        "训练损失在第 {start} 步突然下降 {mean_drop}，学习率没有相应变化。",
        "查看那里发生了什么：新的 epoch（数据再次出现）、数据换了阶段、或训练被恢复。",
    ),
    "suspiciously_low.leak": (
        "验证损失一开始就几乎为零（先 {first_eval}，后 {eval}）：好得不像真的。",
        "检查输入里是否含有目标、标签是否移位两次或没有移位、验证样本是否出现在训练样本中。",
    ),
    "suspiciously_low.entropy": (
        "损失从 {first} 降到 {train} 奈特，低于未见文本所含的信息量。",
        "检查验证文本是否是训练文本的一部分、数据集是否很小且重复、词元是否能看到自己（注意力掩码、标签移位）。",
    ),
    "plateau.none": (
        "{curve}没有下降：开始 {first}，{points} 个点之后 {last}。",
        "检查梯度是否到达权重（冻结的层、优化器参数不对、learning_rate 为 0），并故意让模型过拟合一个批次；然后把 learning_rate 提高 3 到 10 倍试试。",
    ),
    "plateau.noise": (
        "在 {points} 个点上，{curve}没有超出噪声（每点 {noise}）的下降：从 {first} 到 {last}。",
        "在更多步上取平均（logging_steps）或加大批次（gradient_accumulation_steps）以看清趋势；若确实没有下降，提高 learning_rate。",
    ),
    "plateau.guessing": (
        "{curve}停在 {last}，即在 {classes} 类中瞎猜（ln {classes}）。",
        "模型没有从输入学到任何东西：检查标签与输入是否对应、learning_rate（试三分之一和三倍），以及能否过拟合一个批次。",
    ),
    "plateau.unigram": (
        "{curve}在大部分日志中停在 {last} 奈特附近：大约只相当于词元频率。",
        "注意力没有形成：加长 warmup_steps，换 learning_rate（三分之一、三倍），检查位置编码和因果掩码，以及文档是否被逐词元打乱。",
    ),
    "initial_plateau": (
        "{curve}先在 {level} 附近停留 {points} 个点，然后继续下降到 {last}。",
        "常见（模型较晚才超越词元频率）。更长的 warmup_steps 或更高的 learning_rate 可以缩短它。",
    ),
    "slow.rate": (
        "{curve}几乎不动（从 {first} 到 {last}），而学习率从未超过 {learning_rate}：太小了。",
        "把 learning_rate 提高十倍（LoRA 用 1e-4 到 3e-4，全参数微调 1e-5 到 5e-5，预训练 3e-4 到 3e-3）；若日志在预热期内结束，缩短 warmup_steps。",
    ),
    "slow.straight": (
        "{curve}沿直线从 {first} 降到 {last}：训练仍在最初阶段。",
        "把 learning_rate 提高 3 倍，看曲线是否变弯。",
    ),
    "still_falling": (
        "结束时{curve}仍在下降：最后三分之一下降了 {fall}，到 {last}。",
        "训练更久（max_steps 或 num_train_epochs），并在最后让学习率衰减。",
    ),
    "still_falling.schedule": (
        "学习率已经衰减，而{curve}仍在快速下降：最后三分之一下降了 {fall}，到 {last}。",
        "调度太短：把 max_steps（或 num_train_epochs）加倍，并使用同样长度的调度。",
    ),
    "too_short": (
        "日志太短，无法判断：{train_points} 次训练点，{eval_points} 个验证点。",
        "更频繁地记录（logging_steps、eval_steps），或训练更久。",
    ),
    "noisy": (
        "训练损失噪声大：单个点的波动为 {noise}（水平的 {part_percent}），超过它的进步。",
        "在更多步上取平均（logging_steps），或加大批次（per_device_train_batch_size、gradient_accumulation_steps）；不要凭单个点判断。",
    ),
    "lr_drop": (
        "训练损失从第 {step} 步起下降加快（之前 {fall_before}，之后 {fall_after}），因为学习率在那里从 {rate_before} 降到 {rate_after}。",
        "这是预期的。更早衰减不会得到同样的收益：最终损失取决于整个调度。",
    ),
    "wrong_initial_loss.known": (
        "第一个损失是 {first}；什么都不知道的模型应为 ln {vocabulary} = {know_nothing}。",
        "未训练的模型对错误的答案很有把握：减小输出头的初始化（std 0.02），或将 logits 除以宽度的平方根。",
    ),
    "wrong_initial_loss.any": (
        "第一个损失是 {first}，比任何词表下一无所知的代价（ln {vocabulary} = {know_nothing}）还高。",
        "未训练的模型对错误的答案很有把握：减小输出头的初始化（std 0.02）；或者损失是多项之和、或累积步之和。",
    ),
    "loss_scale": (
        "训练损失始终是验证损失的 {ratio} 倍（误差在 {spread_percent} 以内）：两者的分母不同。",
        "应除以所有累积步和所有进程的目标词元数：接近 gradient_accumulation_steps 或设备数的倍数，是该取平均却取了和"
        "（transformers 4.46 和 4.47 如此）。",
    ),
    "resume_jump.up": (
        "在训练恢复的第 {step} 步，训练损失从 {before} 跳到 {after}。",
        "检查点没有恢复全部状态：检查优化器状态、学习率调度、loss scale 和随机状态。",
    ),
    "resume_jump.down": (
        "在训练恢复的第 {step} 步，训练损失从 {before} 跳降到 {after}。",
        "数据可能又从头开始：模型看到的是见过的内容。恢复数据位置（ignore_data_skip=False），并预期在新数据开始处损失会上升一级。",
    ),
    "normal": (
        "训练正常收敛：{curve}从 {first} 到 {last}；最后三分之一下降了 {fall_lately}。",
        "",
    ),
}

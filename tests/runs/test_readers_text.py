"""Every text format, in the form its tool documents or really writes; expected numbers are written out by hand."""

# ruff: noqa: E501  (the lines of real logs are as long as they are)

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lossmith.runs import Run, read

LN2 = math.log(2)


def runs_of(tmp_path: Path, text: str, name: str = "log.txt") -> list[Run]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    reading = read(path)
    assert not reading.skipped, reading.skipped
    return reading.runs


def points(run: Run, name: str) -> list[tuple[int, float]]:
    curve = run.curves[name]
    return list(zip(curve.step.tolist(), curve.value.tolist(), strict=True))


NANOGPT = """\
number of parameters: 10.65M
step 0: train loss 4.2874, val loss 4.2823
iter 0: loss 4.2650, time 21432.63ms, mfu -100.00%
iter 10: loss 3.1430, time 97.10ms, mfu 3.84%
step 20: train loss 2.9000, val loss 2.9500
iter 20: loss 2.7321, time 98.00ms, mfu 3.80%
"""
LLMC_MAIN = "s:0 tel:10.968871\ns:0 trl:10.965596\ns:1 trl:10.814037\ns:2 trl:10.543272 lr:0.000003 norm:2.1000\n"
LLMC_STDOUT = """\
val loss 11.009163
step    1/18865 | loss 11.009594 (+nanz)| norm 15.4242 (+nanz)| lr 8.57e-07 | 2942.36 ms | 47.6% bf16 MFU | 178189 tok/s
step    2/18865 | loss 10.967068 (+nanz)| norm 15.3940 (+nanz)| lr 1.71e-06 | 2833.20 ms | 49.5% bf16 MFU | 185055 tok/s
"""
MODDED = """\
def step(self): print(f"step:{step}/{args.num_iterations} train_loss:{loss:.4f}")
warmup_step:1/20 train_loss:99.0
step:0/5100 val_loss:16.0012 train_time:387ms step_avg:nanms
step:1/5100 train_loss:15.9932 train_time:23767ms step_avg:nanms
step:2/5100 train_loss:9.9150 train_time:23895ms step_avg:nanms
step:2/5100 val_loss:9.8000 train_time:23895ms step_avg:nanms
"""
NANOCHAT = """\
Step 00000 | Validation bpb: 3.2100
step 00000/21400 (0.00%) | loss: 11.090341 | grad norm: 0.3 | lrm: 1.00 | dt: 24071.08ms | tok/sec: 21,780 | mfu: 1.66
step 00001/21400 (0.00%) | loss: 10.808513 | grad norm: 0.4 | lrm: 1.00 | dt: 687.42ms | tok/sec: 762,687 | mfu: 58.32
"""
MEGATRON = """\
[default7]: iteration    31219/  115311 | consumed samples:     52000000 | elapsed time per iteration (ms): 22306.6 | \
learning rate: 5.279E-05 | global batch size:  2048 | lm loss: 5.098124E+00 | loss scale: 1.0 | grad norm: 960.351 | \
number of skipped iterations:   0 | number of nan iterations:   0 |
[default7]: iteration    31220/  115311 | consumed samples:     52002048 | elapsed time per iteration (ms): 22306.6 | \
learning rate: 5.279E-05 | global batch size:  2048 | loss scale: 0.5 | grad norm: inf | \
number of skipped iterations:   1 | number of nan iterations:   0 |
[default7]: validation loss at iteration 31220 | lm loss value: 2.210000E+00 | lm loss PPL: 9.115716E+00 |
"""
NEOX = """\
 samples/sec: 20.6 | iteration       10/  320000 | elapsed time per iteration (ms): 1538.0 | learning rate: 3.750E-07 | \
approx flops per GPU: 20.4TFLOPS | lm_loss: 1.082E+01 | loss scale: 65536.0 | number of skipped iterations:   0 |
 validation results at iteration 10 | lm_loss value: 3.500000E+00 | lm_loss_ppl value: 3.311545E+01 |
"""
MEGATRON_DEEPSPEED = """\
[2024-01-01 00:00:00,000] [INFO] [logging.py:68:log_dist] [Rank 0] step=10, skipped=0, lr=[0.00012, 0.00012], mom=[[0.9, 0.95]]
steps: 10 loss: 8.5000 iter time (s): 0.510 samples/sec: 31.0
steps: 20 loss: 8.2500 iter time (s): 0.510 samples/sec: 31.0
"""
TORCHTITAN = """\
[rank0]:2025-01-01 00:00:00,000 - root - INFO - \x1b[31mstep:  1  \x1b[32mloss:  8.1309  \x1b[38;2;180;60;0mgrad_norm:  1.5700  \
\x1b[34mmemory:  1.94GiB(2.04%)  \x1b[33mtps: 1,023  \x1b[36mtflops: 0.09  \x1b[35mmfu: 0.01%\x1b[39m
[rank0]:2025-01-01 00:00:01,000 - root - INFO - \x1b[31mstep: 10  \x1b[32mloss:  7.0300  \x1b[38;2;180;60;0mgrad_norm:  1.2000\x1b[39m
[rank0]:2025-01-01 00:00:02,000 - root - INFO - \x1b[32mvalidate step: 10  loss:  7.1000  memory:  1.94GiB\x1b[39m
"""
LITGPT = """\
Epoch 1 | iter 4 step 1 | loss train: 3.100, val: n/a | iter time: 97.10 ms (step) remaining time: 1:00:00
Epoch 1 | iter 8 step 2 | loss train: 2.900, val: 2.950 | iter time: 97.10 ms (step) remaining time: 1:00:00
Epoch 1 | iter 12 step 3 | loss train: 2.800, val: 2.950 | iter time: 97.10 ms (step) remaining time: 1:00:00
Epoch 2 | iter 16 step 4 | loss train: 2.700, val: 2.850 | iter time: 97.10 ms (step) remaining time: 1:00:00
"""
OLMO = """\
2024-05-01 10:00:00.000 host:0 olmo.train:950 INFO [step=1/1000,epoch=0]
    optim/total_grad_norm=1.234
    train/CrossEntropyLoss=11.25
    train/Perplexity=76,880
    throughput/total_tokens=4,194,304
    optim/learning_rate_group0=0.00001
2024-05-01 10:00:10.000 host:0 olmo.train:950 INFO [step=2/1000,epoch=0]
    train/CrossEntropyLoss=11.00
    throughput/total_tokens=8,388,608
"""
NANOTRON = """\
01/01/2025 00:00:00 [INFO|DP=0|PP=0|TP=0]: iteration: 1 / 100 | consumed_tokens: 1.05M | elapsed_time_per_iteration_ms: 6.56K | \
tokens_per_sec: 160K | global_batch_size: 1.02K | lm_loss: 11.1 | lr: 0.00015 | model_tflops_per_gpu: 24 | grad_norm: 21.5
01/01/2025 00:00:07 [INFO|DP=0|PP=0|TP=0]: iteration: 2 / 100 | consumed_tokens: 2.1M | elapsed_time_per_iteration_ms: 6.56K | \
tokens_per_sec: 160K | global_batch_size: 1.02K | lm_loss: 10.9 | lr: 0.0003 | model_tflops_per_gpu: 24 | grad_norm: 20
"""
FAIRSEQ = """\
2020-05-01 10:00:00 | INFO | train_inner | epoch 001:    100 / 1102 loss=12.1, nll_loss=11.9, ppl=3821, wps=2000, num_updates=100, \
lr=1e-05, gnorm=3.5, train_wall=60
2020-05-01 10:00:00 | INFO | train_inner | epoch 001:    200 / 1102 loss=11.5, nll_loss=11.2, ppl=2352, wps=2000, num_updates=200, \
lr=2e-05, gnorm=3.1, train_wall=60
2020-05-01 10:01:00 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 10.3 | nll_loss 9.8 | ppl 891 | num_updates 200
2020-05-01 10:01:01 | INFO | train | epoch 001 | loss 11.8 | nll_loss 11.5 | ppl 2896 | num_updates 200 | lr 2e-05 | gnorm 3.3
"""
FAIRSEQ_OLD = """\
| epoch 001 | loss 8.000 | nll_loss 7.500 | ppl 181.0 | wps 2000 | num_updates 1000 | lr 0.0001 | gnorm 1.5 | clip 0.0
| epoch 001 | valid on 'valid' subset | loss 7.000 | nll_loss 6.500 | ppl 90.5 | num_updates 1000
| epoch 002 | loss 6.000 | nll_loss 5.500 | ppl 45.3 | wps 2000 | num_updates 2000 | lr 0.0002 | gnorm 1.4 | clip 0.0
| epoch 002 | valid on 'valid' subset | loss 5.500 | nll_loss 5.000 | ppl 32.0 | num_updates 2000
"""
METASEQ = (
    '2022-01-01 10:00:00 | INFO | train_inner | {"epoch": 1, "actv_norm": "38.9", "loss": "12.0", "ppl": "4096", '
    '"num_updates": "10", "lr": "6e-05", "gnorm": "1.5", "loss_scale": "4"}\n'
    '2022-01-01 10:00:10 | INFO | train_inner | {"epoch": 1, "actv_norm": "38.9", "loss": "11.0", "ppl": "2048", '
    '"num_updates": "20", "lr": "6e-05", "gnorm": "1.2", "loss_scale": "4"}\n'
)
CAFFE = """\
I0101 00:00:00.000000  1234 solver.cpp:330] Iteration 0, Testing net (#0)
I0101 00:00:00.000000  1234 solver.cpp:397]     Test net output #0: accuracy = 0.0913
I0101 00:00:00.000000  1234 solver.cpp:397]     Test net output #1: loss = 2.3625 (* 1 = 2.3625 loss)
I0101 00:00:00.000000  1234 solver.cpp:218] Iteration 0 (0 iter/s, 0.1s/100 iters), loss = 2.3742
I0101 00:00:00.000000  1234 solver.cpp:237]     Train net output #0: loss = 2.3742 (* 1 = 2.3742 loss)
I0101 00:00:00.000000  1234 sgd_solver.cpp:105] Iteration 0, lr = 0.01
I0101 00:00:01.000000  1234 solver.cpp:218] Iteration 100 (9.5 iter/s, 10.5s/100 iters), loss = 87.3365
I0101 00:00:01.000000  1234 sgd_solver.cpp:105] Iteration 100, lr = 0.00992565
"""
XGBOOST = "[0]\ttrain-logloss:0.48\tvalid-logloss:0.50\n[1]\ttrain-logloss:0.36\tvalid-logloss:0.41\n"
XGBOOST_AUC = "[0]\ttrain-auc:0.9\ttrain-mlogloss:1.5\teval-auc:0.8\teval-mlogloss:1.6\n[5]\ttrain-auc:0.95\t" + (
    "train-mlogloss:1.25\teval-auc:0.85\teval-mlogloss:1.5\n"
)
LIGHTGBM = """\
[LightGBM] [Info] Number of data points in the train set: 7000, number of used features: 28
[10]\ttraining's binary_logloss: 0.55\ttraining's auc: 0.8\tvalid_1's binary_logloss: 0.6\tvalid_1's auc: 0.7
[20]\ttraining's binary_logloss: 0.5\ttraining's auc: 0.85\tvalid_1's binary_logloss: 0.58\tvalid_1's auc: 0.75
"""
CATBOOST = """\
Learning rate set to 0.03
0:\tlearn: 0.6800000\ttest: 0.6900000\tbest: 0.6900000 (0)\ttotal: 50ms\tremaining: 5s
1:\tlearn: 0.6600000\ttest: 0.6700000\tbest: 0.6700000 (1)\ttotal: 90ms\tremaining: 4s
"""
KERAS = (
    "Epoch 1/2\n"
    " 1/35 [..............................] - ETA: 10s - loss: 0.9000 - acc: 0.1000\b\b\b\b\b\r"
    "35/35 [==============================] - ETA: 0s - loss: 0.5000 - acc: 0.7000\r"
    "35/35 [==============================] - 4s 100ms/step - loss: 0.4700 - acc: 0.8000 - val_loss: 0.5800 - val_acc: 0.7500\n"
    "Epoch 2/2\n"
    "35/35 - 4s - loss: 0.4000 - acc: 0.8500 - val_loss: 0.6000 - val_acc: 0.7600\n"
    "10/10 [==============================] - 1s 10ms/step - loss: 9.9000 - acc: 0.1000\n"
)
KERAS3 = """\
Epoch 1/2
\x1b[1m100/100\x1b[0m \x1b[32m━━━━━━━━━━━━━━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m3s\x1b[0m 30ms/step - accuracy: 0.50 - loss: 1.25 - learning_rate: 1.0000e-03
Epoch 2/2
\x1b[1m100/100\x1b[0m \x1b[32m━━━━━━━━━━━━━━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m3s\x1b[0m 30ms/step - accuracy: 0.75 - loss: 0.75 - learning_rate: 5.0000e-04
"""
KERAS_OLD = "Epoch 1/2\n - 3s - loss: 0.5 - acc: 0.75\nEpoch 2/2\n - 3s - loss: 0.25 - acc: 0.875\n"
MMENGINE = """\
2023/01/01 00:00:00 - mmengine - INFO - Epoch(train) [1][ 50/100]  lr: 1.0000e-03  eta: 0:10:00  time: 0.2  data_time: 0.01  loss: 1.50
2023/01/01 00:00:00 - mmengine - INFO - Epoch(train) [1][100/100]  lr: 1.0000e-03  eta: 0:10:00  time: 0.2  data_time: 0.01  loss: 1.25
2023/01/01 00:00:00 - mmengine - INFO - Epoch(val) [1][10/10]  accuracy/top1: 50.5
2023/01/01 00:00:00 - mmengine - INFO - Epoch(train) [2][ 50/100]  lr: 1.0000e-04  eta: 0:10:00  time: 0.2  data_time: 0.01  loss: 1.00
"""
HF_PRINTED = """\
{'loss': 1.2395, 'grad_norm': 1.5, 'learning_rate': 4.9e-06, 'epoch': 0.13}
  3%|▎         | 10/300 [00:05<02:25,  2.00it/s]{'loss': '1.1', 'grad_norm': 'nan', 'learning_rate': '9.77e-06', 'epoch': '0.27'}
{'eval_loss': 1.3, 'eval_runtime': 3.5, 'epoch': 0.27}
{'train_runtime': 332.9, 'train_samples_per_second': 54.1, 'train_loss': 1.17, 'epoch': 0.27}
"""
PYTORCH_TUTORIAL = """\
Epoch 0/2
----------
train Loss: 0.5703 Acc: 0.7049
val Loss: 0.2504 Acc: 0.8954

Epoch 1/2
----------
train Loss: 0.4000 Acc: 0.8000
val Loss: 0.2604 Acc: 0.8900
"""
PYTORCH_STEPS = "".join(
    f"Epoch [{epoch}/2], Step [{step}/600], Loss: {3 - epoch - step / 600:.4f}\n"
    for epoch in (1, 2)
    for step in (200, 400, 600)
)
TENSORFLOW = "INFO:tensorflow:loss = 2.3, step = 1\nINFO:tensorflow:global_step/sec: 10.5\nINFO:tensorflow:loss = 1.25, step = 101 (9.5 sec)\n"
BARE = "[73] loss: 5547.6\n[74] loss: 9985.5\n[75] loss: 4113.39\n"
XLNET = "[21500] | gnorm 0.50 lr 0.000020 | loss 7.64 | pplx 2079.75, bpc  11.0223\n[22000] | gnorm 0.60 lr 0.000019 | loss 7.5 | pplx 1808, bpc 10.8\n"
BIGDL = "".join(
    f"[Epoch 1 123/456][Iteration {step}][Wall Clock 9.5s] Trained 32 records in 0.1 seconds. Loss is {loss}.\n"
    for step, loss in ((45457, 1.26458), (45458, 1.25))
)
LIGHTNING_BAR = (
    "Epoch 0:  10%|█ | 10/100 [00:01<00:09, 10.0it/s, v_num=3, train_loss=5.50]\rEpoch 0: 100%|██| 100/100 [00:02<00:08, "
    "10.0it/s, v_num=3, train_loss=5.00]\rEpoch 1:  10%|█ | 10/100 [00:01<00:09, 10.0it/s, v_num=3, train_loss=4.50]\n"
)
MARKDOWN = "results\n\n| step | train loss | val loss |\n|-----:|---|---|\n| 100 | 3.5 | 3.6 |\n| 200 | 3.25 | 3.4 |\n"
FASTAI = "epoch     train_loss  valid_loss  time    \n0         0.542000    0.412000    00:10     \n1         0.401000    0.388000    00:10     \n"
SWIFT = (
    "{'loss': 1.5, 'learning_rate': 1e-05, 'memory(GiB)': 20.5, 'epoch': 0.01, 'global_step/max_steps': '5/500', 'percentage': '1.00%'}\n"
    "{'loss': 1.25, 'learning_rate': 1e-05, 'memory(GiB)': 20.5, 'epoch': 0.02, 'global_step/max_steps': '10/500', 'percentage': '2.00%'}\n"
)
MAXTEXT = (
    "completed step: 0, seconds: 10.5, TFLOP/s/device: 1.2, Tokens/s/device: 390.2, total_weights: 4096, loss: 10.87\n"
    "completed step: 1, seconds: 0.5, TFLOP/s/device: 30, Tokens/s/device: 9390.2, total_weights: 4096, loss: 10.5\n"
)
AFTER_CODE = "loss = 0.5 * x\nself.loss_weight = 2.0\n" + "step 10 loss 3.5\nstep 20 loss 3.25\n"
PLAIN = "epoch 1 train_loss=2.5 val_loss=2.75 lr=1e-3\nepoch 2 train_loss=2.25 val_loss=2.5 lr=5e-4\n"

CASES = {
    "nanogpt": (NANOGPT, "nanogpt", {"loss": [(0, 4.265), (10, 3.143), (20, 2.7321)], "eval_loss": [(0, 4.2823), (20, 2.95)]}),
    "llmc_main": (LLMC_MAIN, "llm.c", {"loss": [(0, 10.965596), (1, 10.814037), (2, 10.543272)], "eval_loss": [(0, 10.968871)]}),
    "llmc_stdout": (LLMC_STDOUT, "llm.c", {"loss": [(1, 11.009594), (2, 10.967068)], "learning_rate": [(1, 8.57e-7), (2, 1.71e-6)],
                                           "grad_norm": [(1, 15.4242), (2, 15.394)]}),
    "modded": (MODDED, "modded_nanogpt", {"loss": [(1, 15.9932), (2, 9.915)], "eval_loss": [(0, 16.0012), (2, 9.8)]}),
    "nanochat": (NANOCHAT, "nanochat", {"loss": [(0, 11.090341), (1, 10.808513)], "eval_bpb": [(0, 3.21)]}),
    "megatron": (MEGATRON, "megatron", {"loss": [(31219, 5.098124)], "loss_scale": [(31219, 1.0), (31220, 0.5)],
                                        "grad_norm": [(31219, 960.351), (31220, math.inf)], "eval_loss": [(31220, 2.21)]}),
    "neox": (NEOX, "megatron", {"loss": [(10, 10.82)], "eval_loss": [(10, 3.5)], "eval_perplexity": [(10, 33.11545)]}),
    "megatron_deepspeed": (MEGATRON_DEEPSPEED, "megatron", {"loss": [(10, 8.5), (20, 8.25)], "learning_rate": [(10, 0.00012)]}),
    "torchtitan": (TORCHTITAN, "torchtitan", {"loss": [(1, 8.1309), (10, 7.03)], "grad_norm": [(1, 1.57), (10, 1.2)],
                                              "eval_loss": [(10, 7.1)], "tps": [(1, 1023.0)]}),
    "litgpt": (LITGPT, "litgpt", {"loss": [(1, 3.1), (2, 2.9), (3, 2.8), (4, 2.7)], "eval_loss": [(2, 2.95), (4, 2.85)]}),
    "olmo": (OLMO, "olmo", {"loss": [(1, 11.25), (2, 11.0)], "grad_norm": [(1, 1.234)], "learning_rate": [(1, 1e-5)],
                            "tokens": [(1, 4194304.0), (2, 8388608.0)]}),
    "nanotron": (NANOTRON, "nanotron", {"loss": [(1, 11.1), (2, 10.9)], "tokens": [(1, 1.05e6), (2, 2.1e6)],
                                        "grad_norm": [(1, 21.5), (2, 20.0)], "learning_rate": [(1, 0.00015), (2, 0.0003)]}),
    "fairseq": (FAIRSEQ, "fairseq", {"loss": [(100, 12.1 * LN2), (200, 11.5 * LN2)], "eval_loss": [(200, 10.3 * LN2)],
                                     "epoch_loss": [(200, 11.8 * LN2)]}),
    "fairseq_old": (FAIRSEQ_OLD, "fairseq", {"loss": [(1000, 8 * LN2), (2000, 6 * LN2)], "eval_loss": [(1000, 7 * LN2), (2000, 5.5 * LN2)]}),
    "metaseq": (METASEQ, "fairseq", {"loss": [(10, 12 * LN2), (20, 11 * LN2)], "loss_scale": [(10, 4.0), (20, 4.0)],
                                     "grad_norm": [(10, 1.5), (20, 1.2)]}),
    "caffe": (CAFFE, "caffe", {"loss": [(0, 2.3742), (100, 87.3365)], "eval_loss": [(0, 2.3625)], "test_accuracy": [(0, 0.0913)],
                               "learning_rate": [(0, 0.01), (100, 0.00992565)]}),
    "xgboost": (XGBOOST, "boosting", {"loss": [(0, 0.48), (1, 0.36)], "eval_loss": [(0, 0.5), (1, 0.41)]}),
    "xgboost_auc": (XGBOOST_AUC, "boosting", {"loss": [(0, 1.5), (5, 1.25)], "eval_loss": [(0, 1.6), (5, 1.5)],
                                              "train-auc": [(0, 0.9), (5, 0.95)]}),
    "lightgbm": (LIGHTGBM, "boosting", {"loss": [(10, 0.55), (20, 0.5)], "eval_loss": [(10, 0.6), (20, 0.58)]}),
    "catboost": (CATBOOST, "boosting", {"loss": [(0, 0.68), (1, 0.66)], "eval_loss": [(0, 0.69), (1, 0.67)]}),
    "keras": (KERAS, "keras_text", {"loss": [(1, 0.47), (2, 0.4)], "eval_loss": [(1, 0.58), (2, 0.6)],
                                    "acc": [(1, 0.8), (2, 0.85)], "eval_acc": [(1, 0.75), (2, 0.76)]}),
    "keras3": (KERAS3, "keras_text", {"loss": [(1, 1.25), (2, 0.75)], "learning_rate": [(1, 1e-3), (2, 5e-4)]}),
    "keras_old": (KERAS_OLD, "keras_text", {"loss": [(1, 0.5), (2, 0.25)], "acc": [(1, 0.75), (2, 0.875)]}),
    "mmengine": (MMENGINE, "mmengine_text", {"loss": [(50, 1.5), (100, 1.25), (150, 1.0)], "learning_rate": [(50, 1e-3), (100, 1e-3), (150, 1e-4)]}),
    "hf_printed": (HF_PRINTED, "hf_dicts", {"loss": [(13, 1.2395), (27, 1.1)], "eval_loss": [(27, 1.3)],
                                            "learning_rate": [(13, 4.9e-6), (27, 9.77e-6)], "grad_norm": [(13, 1.5), (27, math.nan)]}),
    "pytorch_tutorial": (PYTORCH_TUTORIAL, "text", {"loss": [(0, 0.5703), (1, 0.4)], "eval_loss": [(0, 0.2504), (1, 0.2604)]}),
    "pytorch_steps": (PYTORCH_STEPS, "text", {"loss": [(200, 1.6667), (400, 1.3333), (600, 1.0), (800, 0.6667), (1000, 0.3333), (1200, 0.0)]}),
    "tensorflow": (TENSORFLOW, "text", {"loss": [(1, 2.3), (101, 1.25)]}),
    "bare": (BARE, "text", {"loss": [(73, 5547.6), (74, 9985.5), (75, 4113.39)]}),
    "bigdl": (BIGDL, "text", {"loss": [(45457, 1.26458), (45458, 1.25)]}),
    "xlnet": (XLNET, "text", {"loss": [(21500, 7.64), (22000, 7.5)], "grad_norm": [(21500, 0.5), (22000, 0.6)],
                              "learning_rate": [(21500, 2e-5), (22000, 1.9e-5)]}),
    "lightning_bar": (LIGHTNING_BAR, "text", {"loss": [(10, 5.5), (100, 5.0), (110, 4.5)]}),
    "markdown": (MARKDOWN, "csv", {"loss": [(100, 3.5), (200, 3.25)], "eval_loss": [(100, 3.6), (200, 3.4)]}),
    "fastai": (FASTAI, "csv", {"loss": [(0, 0.542), (1, 0.401)], "eval_loss": [(0, 0.412), (1, 0.388)]}),
    "swift": (SWIFT, "hf_dicts", {"loss": [(5, 1.5), (10, 1.25)]}),
    "maxtext": (MAXTEXT, "text", {"loss": [(0, 10.87), (1, 10.5)]}),
    "after_code": (AFTER_CODE, "text", {"loss": [(10, 3.5), (20, 3.25)]}),
    "plain": (PLAIN, "text", {"loss": [(1, 2.5), (2, 2.25)], "eval_loss": [(1, 2.75), (2, 2.5)], "learning_rate": [(1, 1e-3), (2, 5e-4)]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_each_text_format(tmp_path: Path, case: str, ends: str) -> None:
    text, reader, curves = CASES[case]
    path = tmp_path / "train.log"
    path.write_bytes(text.replace("\n", ends).encode())
    reading = read(path)
    assert [taken.reader for taken in reading.taken] == [reader], (reading.taken, reading.skipped)
    run = reading.runs[0]
    for name, expected in curves.items():
        assert name in run.curves, sorted(run.curves)
        assert points(run, name) == [(step, pytest.approx(value, nan_ok=True)) for step, value in expected]

"""The main job, `make demo`: real pretrained models on real data, exact beside ELSA.

For each model: capture its activations, learn thresholds, evaluate the task with ELSA inside the
model, explain one decision, draw pictures. Everything lands in one folder.
"""

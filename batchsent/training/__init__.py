"""The parts of fine-tuning: labelled rows, base model, Trainer, checkpoints, card.

commands/finetune.py puts them together.
"""

"""The parts of fine-tuning: labelled rows, base model, Trainer, checkpoints, card; finetune.py tells the story."""

"""Training of residual networks on CIFAR-10 and digits: torch and torchvision only."""

"""Describes studies, their trials and this machine; starts, stops and changes no study."""

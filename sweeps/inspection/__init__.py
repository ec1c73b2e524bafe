"""Looks at studies, their trials and this machine, and tells about them; starts, stops and changes no study."""

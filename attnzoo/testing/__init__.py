"""The contracts of blocks and policies, as checks for whoever writes one."""

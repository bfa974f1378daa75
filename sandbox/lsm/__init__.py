"""AppArmor and SELinux: a profile and a domain of our own, applied where the host has them."""

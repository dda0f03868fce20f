"""The `elsa-<name>` commands that need torch. The native `elsa` finds and runs them."""

"""What the operator chose, typed and checked: files and environment become one Settings."""

"""`python -m kopwijzer` and the `kopwijzer` command."""

from kopwijzer.cli import main

if __name__ == "__main__":
    main()

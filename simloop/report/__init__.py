"""What a person is told of a failing run."""

"""A package, so that one running platform serves all of these modules (pytest's scope `package`)."""

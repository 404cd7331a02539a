"""Which languages engines translate, as far as it can be told without one: for the plan and for the engines alike."""

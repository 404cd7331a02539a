"""Which languages engines translate, as far as can be known without one; used by the plan and the engines alike."""

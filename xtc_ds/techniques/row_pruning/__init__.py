"""Set whole outputs of a layer to zero; they are cut off if the layers that read them shrink as well."""

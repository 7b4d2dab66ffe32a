"""Operations: health, metrics, providers, keys."""

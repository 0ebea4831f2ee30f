"""Cut videos into clips, and turn scores of clips into scores of frames."""

from skmemae.video.clips import Clips, ClipWindows
from skmemae.video.reading import read_video
from skmemae.video.scores import OnlineNormality, frame_maps, frame_scores, normality_score

__all__ = ["ClipWindows", "Clips", "OnlineNormality", "frame_maps", "frame_scores", "normality_score", "read_video"]

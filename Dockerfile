# The app for one machine: docker build -t drag-and-drop-llms . && docker run -p 127.0.0.1:7860:7860 drag-and-drop-llms
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 app
WORKDIR /home/app/code

# Packages first: they change less often than the code. PyTorch without CUDA is a tenth of the size:
# name PyTorch's index of CPU builds with --build-arg TORCH_INDEX=URL.
ARG TORCH_INDEX=""
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir torch ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    && pip install --no-cache-dir -r requirements.txt --constraint constraints.txt

COPY README.md LICENSE NOTICE.md app.py pyproject.toml ./
COPY dnd_engine ./dnd_engine
COPY ui ./ui
COPY assets ./assets

USER app
# The base model is downloaded on the first start, and kept here.
RUN mkdir -p /home/app/.cache
VOLUME ["/home/app/.cache"]

ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    PYTHONDONTWRITEBYTECODE=1
EXPOSE 7860
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health/live')"]
CMD ["python", "app.py"]

# docker build -t recbole-session .
# docker run --rm -v "$PWD:/work" recbole-session                          trains on ml-100k, writes into saved/
# docker run --rm -v "$PWD:/work" recbole-session train --model=SASRec --dataset=ml-1m
# For a GPU: --build-arg TORCH=cu126 at the first line, --gpus=all at the others.
FROM python:3.13-slim

ARG TORCH=cpu
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt \
      --extra-index-url "https://download.pytorch.org/whl/$TORCH" torch "/src[plot,tune,export,parquet,download]" \
 && pip install --no-cache-dir --no-deps --constraint /src/constraints.txt recbole \
 && rm -r /src

RUN useradd --create-home user && mkdir /work && chown user /work
USER user
WORKDIR /work
VOLUME /work
ENTRYPOINT ["recbole-session"]
CMD ["train", "--model=SessionBERT4Rec", "--dataset=ml-100k"]
